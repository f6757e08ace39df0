"""Mouse, touch and keyboard; light, dark and small screens; the key; files to keep."""

import json
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.browser.conftest import Known, Visit, Visitor

AXE = Path(__file__).parent / "vendor" / "axe.min.js"


def corner(visitor: Visitor) -> tuple[int, int, int]:
    """Zoom in percent, window width, level."""
    zoom, window = visitor.text("#corner-view").split("\n")
    _, width, _, level = window.split()
    return int(zoom.rstrip("%")), int(width), int(level)


@pytest.fixture
def at_film(visit: Visit, known: Known) -> Visitor:
    return visit().open().drop(known.routed).wait_for_report().wait_for_picture()


def test_the_keyboard_alone_reaches_everything_in_order(visit: Visit, known: Known, letter: Path) -> None:
    visitor = visit().open().drop(known.routed, known.skipped, letter).wait_for_all().wait_for_picture()
    keyboard = visitor.page.keyboard
    reached = []
    for _ in range(60):
        keyboard.press("Tab")
        focused = visitor.focused
        if focused is None:
            break
        assert visitor.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", focused
        reached.append(focused)
    findings = visitor.page.locator(".finding").count()
    assert findings == 14
    walk = ["Skip to the film", "Model card", "API", "open-sheet", "theme", "Add films", "clear"]
    assert reached[:7] == walk
    assert known.routed.name in reached[7]
    assert reached[8] == "viewer"
    assert reached[9:17] == ["Zoom out", "Zoom in", "Fit", "1:1\nActual size", "Move", "Window", "invert", "Reset"]
    assert len(reached[17:31]) == len(set(reached[17:31])) == 14
    assert reached[31:33] == ["agree", "correct"]
    assert reached[33:36] == ["PNG", "PDF", "JSON"]


def test_enter_opens_a_heatmap_and_arrows_walk_the_list(visit: Visit, known: Known, letter: Path) -> None:
    visitor = visit().open().drop(known.routed, known.skipped, letter).wait_for_all().wait_for_picture()
    keyboard = visitor.page.keyboard
    finding = visitor.page.locator(".finding").nth(1)
    finding.focus()
    keyboard.press("Enter")
    visitor.page.locator(".finding[aria-pressed=true]").wait_for()
    assert finding.get_attribute("aria-pressed") == "true"
    visitor.shot("keyboard-dark")
    visitor.page.locator("#films button[aria-current]").focus()
    keyboard.press("End")
    keyboard.press("Enter")
    visitor.page.locator(".refused").wait_for()
    assert visitor.page.evaluate("document.activeElement.innerText").startswith("letter.txt")
    keyboard.press("p")
    visitor.page.locator("#report .film-name", has_text=known.skipped.name).wait_for()


def test_keys_change_the_view(at_film: Visitor) -> None:
    keyboard = at_film.page.keyboard
    zoom, width, level = corner(at_film)
    assert (width, level) == (255, 128)
    for key in ("+", "[", ";"):
        keyboard.press(key)
    assert corner(at_film) == (pytest.approx(zoom * 1.25, abs=1), 239, 136)
    keyboard.press("i")
    assert at_film.page.locator("#invert").get_attribute("aria-pressed") == "true"
    at_film.shot("inverted-dark")
    keyboard.press("1")
    assert corner(at_film)[0] == 100
    keyboard.press("r")
    assert corner(at_film) == (zoom, 255, 128)
    assert at_film.page.locator("#invert").get_attribute("aria-pressed") == "false"
    keyboard.press("?")
    assert at_film.page.locator("#sheet").is_visible()
    at_film.shot("sheet-dark")
    keyboard.press("i")
    keyboard.press("Escape")
    assert at_film.page.locator("#sheet").is_hidden()
    assert at_film.page.locator("#invert").get_attribute("aria-pressed") == "false"


def test_the_mouse_zooms_moves_and_changes_the_window(at_film: Visitor) -> None:
    mouse, box = at_film.page.mouse, at_film.page.locator("#viewer").bounding_box()
    zoom, _, _ = corner(at_film)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse.move(x, y)
    mouse.wheel(0, -400)
    at_film.page.locator("#corner-view", has_text=f"{zoom}%").wait_for(state="detached")
    assert corner(at_film)[0] == pytest.approx(zoom * np.exp(0.64), abs=2)
    at_film.shot("zoomed-dark")
    mouse.down(button="right")
    mouse.move(x + 50, y - 50)
    mouse.up(button="right")
    assert corner(at_film)[1:] == (285, 98)
    mouse.dblclick(x, y)
    assert corner(at_film)[0] == zoom
    at_film.page.locator("[data-drag=window]").click()
    mouse.move(x, y)
    mouse.down()
    mouse.move(x - 100, y)
    mouse.up()
    assert corner(at_film)[1:] == (225, 98)


def test_two_fingers_zoom(visit: Visit, known: Known) -> None:
    visitor = visit(360, 740, has_touch=True).open().choose(known.routed).wait_for_report().wait_for_picture()
    zoom = corner(visitor)[0]
    box = visitor.page.locator("#viewer").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = visitor.page.context.new_cdp_session(visitor.page)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80)):
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert corner(visitor)[0] == pytest.approx(zoom * 2, abs=2)


def test_light_and_dark_follow_the_system_and_the_button(visit: Visit) -> None:
    ground = "getComputedStyle(document.querySelector('.top')).backgroundColor"
    dark, light = visit(scheme="dark").open(), visit(scheme="light").open()
    light.shot("empty-light")
    colours = dark.page.evaluate(ground), light.page.evaluate(ground)
    assert colours == ("rgb(18, 22, 28)", "rgb(255, 255, 255)")
    dark.page.locator("#theme").click()
    assert dark.page.evaluate(ground) == colours[1]
    dark.page.reload()
    assert dark.page.evaluate(ground) == colours[1]


def test_a_phone_shows_all_without_scrolling_sideways(visit: Visit, known: Known, letter: Path) -> None:
    visitor = visit(360, 740, scheme="light", has_touch=True).open()
    visitor.shot("phone-empty-light")
    visitor.choose(known.routed, known.skipped, letter).wait_for_all().wait_for_picture()
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == 360
    visitor.page.locator(".finding").last.tap()
    visitor.page.locator(".finding[aria-pressed=true]").wait_for()
    top = visitor.page.locator("#viewer").bounding_box()["y"]
    assert -1 <= top < 740  # the film comes into sight
    visitor.shot("phone-heatmap-light")
    visitor.shot("phone-whole-light", full=True)


@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(1440, 900, "light"), (1440, 900, "dark"), (820, 1100, "dark"), (360, 740, "light")]
)
def test_axe_finds_no_serious_fault(
    visit: Visit, known: Known, letter: Path, width: int, height: int, scheme: str
) -> None:
    visitor = visit(width, height, scheme=scheme, reduced_motion="reduce")
    found = []

    def look(state: str) -> None:
        run = f"{AXE.read_text()}; axe.run().then((result) => result.violations)"
        for fault in visitor.page.evaluate(run):
            nodes = [node["target"] for node in fault["nodes"]]
            found.append((state, fault["id"], fault["impact"], nodes))

    visitor.open("")
    visitor.page.locator("#key-dialog[open]").wait_for()
    look("key")
    visitor.shot(f"key-{scheme}-{width}")
    visitor.page.locator("#key-input").fill(visitor.service.key)
    visitor.page.keyboard.press("Enter")
    visitor.page.locator("#key-dialog[open]").wait_for(state="detached")
    look("empty")
    visitor.choose(known.routed, known.skipped, letter).wait_for_all().wait_for_picture()
    visitor.page.locator(".finding").first.click()
    visitor.page.locator(".finding[aria-pressed=true]").wait_for()
    look("heatmap")
    visitor.page.locator("#correct").click()
    look("correction")
    visitor.shot(f"correction-{scheme}-{width}")
    visitor.shot(f"heatmap-{scheme}-{width}")
    visitor.page.locator("#films button", has_text=known.skipped.name).click()
    visitor.page.locator(".skipped").wait_for()
    look("skipped")
    visitor.page.locator("#films button", has_text="letter.txt").click()
    visitor.page.locator(".refused").wait_for()
    look("refused")
    visitor.page.locator("#open-sheet").click()
    look("sheet")
    assert [one for one in found if one[2] in ("serious", "critical")] == []
    assert found == []


def test_the_key_is_asked_for_once_and_checked(visit: Visit) -> None:
    visitor = visit(scheme="light").open("")
    visitor.page.locator("#key-input").fill("wrong")
    visitor.page.keyboard.press("Enter")
    visitor.page.locator("#key-fault", has_text="does not know this key").wait_for()
    visitor.shot("wrong-key-light")
    visitor.page.locator("#key-input").fill(visitor.service.key)
    visitor.page.keyboard.press("Enter")
    visitor.page.locator("#key-dialog[open]").wait_for(state="detached")
    visitor.page.reload()
    assert visitor.page.locator("#key-dialog").is_hidden()


def test_the_key_in_the_address_is_taken_out_and_not_kept_for_good(visit: Visit) -> None:
    visitor = visit().open()
    assert visitor.page.url == f"{visitor.service.url}/"
    assert visitor.page.evaluate("Object.values(sessionStorage)") == [visitor.service.key]
    assert visitor.page.evaluate("Object.values(localStorage)") == []
    assert visitor.page.context.cookies() == []


def test_a_key_that_is_no_longer_good_is_asked_for_again(visit: Visit, known: Known) -> None:
    visitor = visit().open("#key=revoked").drop(known.skipped)
    visitor.page.locator("#key-fault", has_text="no longer good").wait_for()
    visitor.page.locator("#key-input").fill(visitor.service.key)
    visitor.page.keyboard.press("Enter")
    visitor.wait_for_report()


def test_without_a_key_the_film_says_so_and_can_go_again(visit: Visit, known: Known) -> None:
    visitor = visit().open("")
    visitor.page.locator("#key-cancel").click()
    visitor.drop(known.skipped)
    visitor.page.locator("#key-dialog[open]").wait_for()
    visitor.page.keyboard.press("Escape")
    visitor.page.locator(".refused", has_text="No key").wait_for()
    visitor.page.locator(".refused button").click()
    visitor.page.locator("#key-input").fill(visitor.service.key)
    visitor.page.keyboard.press("Enter")
    visitor.wait_for_report().wait_for_picture()


def keep(visitor: Visitor, kind: str) -> bytes:
    with visitor.page.expect_download() as waiting:
        visitor.page.locator(f"[data-download={kind}]").click()
    assert waiting.value.suggested_filename.endswith(f".cxr.{kind}")
    return Path(waiting.value.path()).read_bytes()


def test_what_is_kept_is_what_was_seen(at_film: Visitor, known: Known, shots: Path) -> None:
    at_film.page.locator(".finding").first.click()
    at_film.page.locator(".finding[aria-pressed=true]").wait_for()
    picture = Image.open(BytesIO(keep(at_film, "png")))
    picture.save(shots / "kept-picture.png")
    assert picture.width == 1024
    assert picture.height > 1024  # the strip of words
    film = np.asarray(picture.convert("RGB"), float)[:1024]
    assert np.ptp(film, axis=2).max() > 30  # the heatmap is on it
    kept = json.loads(keep(at_film, "json"))
    assert kept.pop("film") == known.routed.name
    report = known.reports[known.routed]
    assert kept.pop("id") != report.id  # the same film, read once more
    assert kept == report.model_dump(exclude={"id"})
    page = keep(at_film, "pdf")
    (shots / "kept-page.pdf").write_bytes(page)
    assert page.startswith(b"%PDF-")
    assert page.count(b"/Type /Page\n") == 1


def test_clearing_ends_the_visit(at_film: Visitor) -> None:
    at_film.page.locator("#clear").click()
    assert at_film.page.locator(".welcome").is_visible()
    at_film.page.locator("#films li").wait_for(state="detached")  # drawn with the next frame
    assert at_film.page.locator("#films li").count() == 0
    assert at_film.page.evaluate("document.activeElement.innerText") == "Choose films"


def test_the_links_lead_somewhere(visit: Visit) -> None:
    visitor = visit().open()
    links = visitor.page.locator("nav a").evaluate_all("all => all.map((one) => one.href)")
    assert links == [f"{visitor.service.url}/model", f"{visitor.service.url}/docs"]
    assert httpx.get(links[1]).status_code == 200
