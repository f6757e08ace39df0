"""What has the focus may go with a change of the page; a person then finds it where the work goes on."""

import json
from pathlib import Path

import pytest

from tests.browser.conftest import Known, Visit, Visitor

PROBLEM = json.dumps({"title": "No heatmap", "detail": "none to be had"})
REFUSED = {"status": 422, "content_type": "application/problem+json", "body": PROBLEM}


@pytest.fixture
def at_film(visit: Visit, known: Known) -> Visitor:
    return visit().open().drop(known.routed).wait_for_report().wait_for_picture()


def show(visitor: Visitor, name: str) -> None:
    visitor.page.locator("#report .film-name", has_text=name).wait_for()


@pytest.mark.parametrize("doing", ["drop", "heatmap"])
def test_the_film_comes_into_sight_and_tab_goes_on_from_where_the_person_was(
    visit: Visit, known: Known, doing: str
) -> None:
    visitor = visit().open()
    visitor.page.locator(".banner strong").first.click()  # on words: from here the next Tab starts
    visitor.drop(known.routed).wait_for_report().wait_for_picture()
    if doing == "heatmap":
        visitor.page.keyboard.press("h")
        visitor.page.locator(".finding[aria-pressed=true]").wait_for()
    visitor.page.keyboard.press("Tab")
    assert visitor.focused == "clear"


def test_the_film_comes_into_sight_on_a_phone_and_the_focus_stays(visit: Visit, known: Known) -> None:
    visitor = visit(360, 740, has_touch=True).open().choose(known.routed).wait_for_report().wait_for_picture()
    finding = visitor.page.locator(".finding").last
    finding.focus()
    name = visitor.focused
    visitor.page.keyboard.press("Enter")
    visitor.page.locator(".finding[aria-pressed=true]").wait_for()
    assert -1 <= visitor.page.locator("#viewer").bounding_box()["y"] < 740
    assert visitor.focused == name


@pytest.mark.parametrize("key", ["Enter", "Escape"])
def test_after_the_key_was_asked_for_films_can_be_chosen(visit: Visit, key: str) -> None:
    visitor = visit().open("")
    visitor.page.locator("#key-input").fill(visitor.service.key)
    visitor.page.keyboard.press(key)
    visitor.page.locator("#key-dialog[open]").wait_for(state="detached")
    assert visitor.focused == "Choose films"


@pytest.mark.parametrize("leaving", ["Escape", "Enter"])  # Close has the focus
def test_the_sheet_gives_the_focus_back(at_film: Visitor, leaving: str) -> None:
    for place in ("#open-sheet", "#viewer", ".finding >> nth=3", "#films button"):
        at_film.page.locator(place).focus()
        before = at_film.focused
        at_film.page.keyboard.press("?")
        assert at_film.focused == "Close"
        at_film.page.keyboard.press(leaving)
        at_film.page.locator("#sheet").wait_for(state="hidden")
        assert at_film.focused == before


def test_a_sheet_that_was_opened_from_nowhere_leads_to_the_film(at_film: Visitor) -> None:
    assert at_film.focused is None
    at_film.page.keyboard.press("?")
    at_film.page.keyboard.press("Escape")
    assert at_film.focused == "viewer"


@pytest.mark.parametrize("way", ["drop", "choose"])
def test_the_first_films_take_the_focus_along(visit: Visit, known: Known, way: str) -> None:
    visitor = visit().open()
    visitor.page.locator(".welcome [data-choose]").focus()
    getattr(visitor, way)(known.skipped).wait_for_report()
    assert visitor.focused == "viewer"


def test_the_next_film_keeps_the_focus_on_the_finding(visit: Visit, known: Known) -> None:
    films = [film for film, report in known.reports.items() if report.routed][:2]
    visitor = visit().open().drop(*films).wait_for_all()
    names = visitor.page.locator("#films .name").all_inner_texts()
    visitor.page.locator("#films button").first.click()
    show(visitor, names[0])
    visitor.page.locator(".finding[data-finding=Effusion]").focus()
    for key, name in (("n", names[1]), ("p", names[0])):
        visitor.page.keyboard.press(key)
        show(visitor, name)
        assert visitor.focused == "Effusion"


@pytest.mark.parametrize("place", [".finding >> nth=5", "[data-download=png]", "[data-download=json]", "#opacity"])
def test_what_the_next_film_lacks_gives_the_focus_to_the_viewer(
    visit: Visit, known: Known, letter: Path, place: str
) -> None:
    visitor = visit().open().drop(known.routed, letter).wait_for_all().wait_for_picture()
    visitor.page.locator(".finding").first.click()
    visitor.page.locator(".finding[aria-pressed=true]").wait_for()
    visitor.page.locator(place).focus()
    visitor.page.keyboard.press("n")
    show(visitor, letter.name)
    assert visitor.focused == "viewer"
    visitor.page.keyboard.press("Tab")
    assert visitor.focused == "Zoom out"


def test_a_heatmap_that_goes_gives_the_focus_of_its_slider_to_its_finding(at_film: Visitor) -> None:
    finding = at_film.page.locator(".finding").nth(2)
    finding.click()
    at_film.page.locator(".finding[aria-pressed=true]").wait_for()
    at_film.page.locator("#opacity").focus()
    at_film.page.keyboard.press("h")
    at_film.page.locator("#overlay").wait_for(state="hidden")
    assert at_film.focused == finding.get_attribute("data-finding")


def test_a_heatmap_that_is_refused_leaves_the_focus_on_its_finding(at_film: Visitor) -> None:
    at_film.page.route("**/v1/reports?heatmaps=*", lambda route: route.fulfill(**REFUSED))
    finding = at_film.page.locator(".finding").nth(2)
    finding.focus()
    at_film.page.keyboard.press("Enter")
    at_film.page.locator("#viewer-state", has_text="none to be had").wait_for()
    assert at_film.focused == finding.get_attribute("data-finding")


def test_a_film_that_is_tried_again_has_the_focus_in_the_viewer_after_the_key_was_given(
    visit: Visit, known: Known
) -> None:
    visitor = visit().open("").drop(known.skipped)
    visitor.page.locator("#key-dialog[open]").wait_for()
    visitor.page.keyboard.press("Escape")
    visitor.page.locator(".refused button").focus()
    visitor.page.keyboard.press("Enter")
    visitor.page.locator("#key-input").fill(visitor.service.key)
    visitor.page.keyboard.press("Enter")
    visitor.wait_for_report()
    assert visitor.focused == "viewer"


def test_a_row_that_moves_in_the_list_keeps_the_focus(visit: Visit, known: Known, letter: Path) -> None:
    visitor = visit()
    held = []
    visitor.page.route("**/v1/reports", lambda route: held.append(route))  # Playwright takes no built-ins
    visitor.open().drop(letter, known.routed)
    row = visitor.page.locator("#films button", has_text=letter.name)
    row.focus()
    while len(held) < 2:
        visitor.page.wait_for_timeout(10)
    for route in held:
        route.continue_()
    visitor.wait_for_all()
    assert visitor.page.locator("#films .name").all_inner_texts() == [known.routed.name, letter.name]
    assert visitor.focused.startswith(letter.name)


def test_a_person_who_pressed_on_nothing_keeps_the_focus_nowhere(at_film: Visitor) -> None:
    at_film.page.locator(".finding").first.focus()
    at_film.page.locator("#report .film-name").click()
    assert at_film.focused is None
    at_film.page.locator("#clear").evaluate("one => one.remove()")
    at_film.page.locator(".finding").first.evaluate("one => one.remove()")
    assert at_film.focused is None
