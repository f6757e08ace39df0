"""A film comes in, and its report, picture and heatmaps are seen."""

import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.decoding.image import read_film
from tests.browser.conftest import Known, Visit, Visitor


def seen(visitor: Visitor) -> np.ndarray:
    """[H, W, 3] float of the viewer as it is on the screen."""
    for selector in (".corner", "#viewer-help"):
        visitor.page.locator(selector).evaluate_all("all => all.forEach((one) => { one.style.opacity = 0 })")
    return np.asarray(Image.open(BytesIO(visitor.page.locator("#viewer").screenshot())).convert("RGB"), float)


def fitted(film: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The film as large as it fits, in the middle of black."""
    scale = min(shape[0] / film.shape[0], shape[1] / film.shape[1])
    size = round(film.shape[1] * scale), round(film.shape[0] * scale)
    canvas = Image.new("L", (shape[1], shape[0]))
    canvas.paste(
        Image.fromarray(film).resize(size, Image.Resampling.BOX), ((shape[1] - size[0]) // 2, (shape[0] - size[1]) // 2)
    )
    return np.asarray(canvas, float)


def own_seconds(visitor: Visitor) -> float:
    """From drop to report, as the page says."""
    return float(visitor.text(".facts").partition("read in ")[2].removesuffix(" s"))


def test_a_dropped_nih_film_is_read(visit: Visit, nih_films: list[Path], timings: dict[str, float]) -> None:
    visitor = visit().open()
    visitor.shot("empty-dark")
    visitor.drop(nih_films[0]).wait_for_report()
    timings["seconds_from_drop_to_report_1024_png"] = own_seconds(visitor)
    visitor.wait_for_picture()
    assert visitor.text("#corner-film").endswith("1024 × 1024 px")
    assert visitor.text("#films .name") == nih_films[0].name
    assert visitor.page.locator("#films button").get_attribute("aria-current") == "true"
    visitor.shot("nih-film-dark")


def test_a_dicom_is_shown_as_the_models_get_it(visit: Visit, dicom: Path, timings: dict[str, float]) -> None:
    visitor = visit().open()
    visitor.drop(dicom).wait_for_report()
    timings["seconds_from_drop_to_report_1955_dicom"] = own_seconds(visitor)
    visitor.wait_for_picture()
    assert visitor.text("#corner-film").endswith("1841 × 1955 px")
    visitor.shot("dicom-dark")
    screen = seen(visitor)
    expected = fitted(read_film(dicom.read_bytes()), screen.shape)
    assert np.abs(screen.mean(axis=2) - expected).mean() < 4
    assert np.ptp(screen, axis=2).max() <= 2  # grey


def test_a_routed_film_s_findings_are_the_report_s_present_ones_first(visit: Visit, known: Known) -> None:
    report = known.reports[known.routed]
    visitor = visit(scheme="light").open().drop(known.routed).wait_for_report()
    visitor.wait_for_picture()
    assert float(visitor.text(".verdict .number")) == pytest.approx(report.finding.probability, abs=5e-4)
    assert f"threshold of {report.finding.threshold:.3f}" in visitor.text(".verdict .words")
    rows = visitor.page.locator(".finding")
    shown = [row.get_attribute("data-finding") for row in rows.all()]
    expected = sorted(
        report.diseases, key=lambda one: (-report.diseases[one].present, -report.diseases[one].probability)
    )
    assert shown == expected
    for row in rows.all():
        score = report.diseases[row.get_attribute("data-finding")]
        assert float(row.locator(".value").inner_text()) == pytest.approx(score.probability, abs=5e-4)
        assert row.locator(".tag").count() == score.present
        tick = row.locator(".tick").bounding_box()
        bar = row.locator(".bar").bounding_box()
        assert (tick["x"] + 1 - bar["x"]) / bar["width"] == pytest.approx(score.threshold, abs=0.01)
    visitor.shot("routed-light")


def test_each_probability_stands_among_validation_films_and_an_unsure_call_is_said(visit: Visit, known: Known) -> None:
    report = known.reports[known.routed]
    visitor = visit(width=390, height=844).open().drop(known.routed).wait_for_report()
    finding = report.finding
    assert f"Called {finding.call}" in visitor.text(".sure")
    assert finding.percentiles
    known_places = {"without it": finding.percentiles.without_finding, "with it": finding.percentiles.with_finding}
    assert any(place is not None for place in known_places.values())
    for kind, place in known_places.items():
        if place is None:  # of too few validation films
            assert f"validation films {kind}" not in visitor.text(".sure")
        else:
            assert f"{place:.0f}% of validation films {kind}" in visitor.text(".sure")
    for row in visitor.page.locator(".finding").all():
        score = report.diseases[row.get_attribute("data-finding")]
        assert score.call
        told = score.call == ("present" if score.present else "absent")
        assert row.locator(".call").all_inner_texts() == ([] if told else [score.call])
        places = score.percentiles
        if places is None:  # of too few validation films
            assert row.locator(".strip").count() == 0
            continue
        for kind, at in (("ring", places.without_finding), ("dot", places.with_finding)):
            mark = row.locator(f".strip .{kind}")
            assert mark.count() == (at is not None)
            if at is not None:
                dot, line = mark.bounding_box(), row.locator(".strip").bounding_box()
                assert (dot["x"] - line["x"]) / (line["width"] - dot["width"]) == pytest.approx(at / 100, abs=0.01)
    visitor.shot("routed-phone")


def test_what_is_the_matter_with_a_film_stands_above_its_report(visit: Visit, known: Known) -> None:
    """The service's own report, with words of stage 1's checks put in: this run has too few films to fit them on."""
    quality = {
        "in_distribution": 0.01,
        "orientation": {"value": "upright", "score": 0.99},
        "mirrored": {"value": False, "score": 0.01},
        "inverted": {"value": False, "score": 0.01},
        "unlike": True,
        "readable": False,
        "warnings": ["unlike the films that the models learned from"],
        "corrected": {"turned": "90", "inverted": True},
    }
    visitor = visit()
    visitor.page.route("**/v1/reports", lambda route: answer_with(route, {"quality": quality}))
    visitor.open().drop(known.routed).wait_for_report().wait_for_picture()
    box = visitor.page.locator("#report .warned")
    assert box.locator("h4").inner_text() == "The models may not be able to read this film"
    assert box.locator("p").all_inner_texts() == [
        "Read turned back (it lies turned by 90° clockwise) and inverted back (its bones are dark); "
        "shown as it was sent.",
        "Unlike the films that the models learned from.",
    ]
    assert box.bounding_box()["y"] < visitor.page.locator("#report .verdict").bounding_box()["y"]
    visitor.shot("warned-dark")


def answer_with(route, more: dict) -> None:
    response = route.fetch()
    route.fulfill(response=response, json={**response.json(), **more})


def test_a_skipped_film_says_why(visit: Visit, known: Known) -> None:
    report = known.reports[known.skipped].finding
    visitor = visit(scheme="light").open().drop(known.skipped).wait_for_report()
    visitor.wait_for_picture()
    assert visitor.page.locator(".finding").count() == 0
    said = visitor.text(".skipped")
    assert said.startswith("Skipped.")
    assert f"{report.probability:.3f}" in said
    assert f"below its threshold of {report.threshold:.3f}" in said
    visitor.shot("skipped-light")


def test_a_heatmap_is_fetched_when_asked_for_and_only_then(visit: Visit, known: Known) -> None:
    visitor = visit().open().drop(known.routed).wait_for_report().wait_for_picture()
    first = visitor.page.locator(".finding").first
    plain = seen(visitor)
    assert [one.url for one in visitor.requests if "heatmaps" in one.url] == []
    first.click()
    visitor.page.locator(".finding[aria-pressed=true]").wait_for()
    assert "not where disease is" in visitor.text("#overlay")
    assert np.ptp(seen(visitor), axis=2).max() > 30  # colours
    visitor.page.locator("#opacity").fill("0")
    assert np.ptp(seen(visitor), axis=2).max() <= 2
    visitor.page.locator("#opacity").fill("70")
    visitor.page.locator(".corner").evaluate_all("all => all.forEach((one) => { one.style.opacity = 1 })")
    visitor.shot("heatmap-dark")
    first.click()
    assert visitor.page.locator("#overlay").is_hidden()
    np.testing.assert_allclose(seen(visitor), plain, atol=1)
    first.click()
    visitor.page.locator(".finding[aria-pressed=true]").wait_for()
    name = first.get_attribute("data-finding")
    asked = [one.url.partition("?")[2] for one in visitor.requests if "heatmaps" in one.url]
    assert asked == [f"heatmaps={name}"]


def test_a_bad_film_has_its_reason_and_stands_last(visit: Visit, known: Known, letter: Path) -> None:
    visitor = visit().open().drop(letter, known.skipped, known.routed).wait_for_all()
    names = visitor.page.locator("#films .name").all_inner_texts()
    assert names[-1] == "letter.txt"
    assert "Unreadable image: not a PNG, JPEG or DICOM file, but text" in visitor.text("#films li:last-child")
    visitor.page.locator("#films li:last-child button").click()
    assert visitor.text(".refused h4") == "Unreadable image"
    assert visitor.text(".refused p") == "Not a PNG, JPEG or DICOM file, but text."
    visitor.page.locator("#viewer-state", has_text="cannot be shown").wait_for()
    visitor.shot("bad-film-dark")


def test_thirty_films_go_four_at_a_time_and_end_most_suspicious_first(
    visit: Visit, known: Known, timings: dict[str, float]
) -> None:
    visitor = visit(scheme="light").open()
    under_way: set[int] = set()
    most = 0

    def begin(request) -> None:
        nonlocal most
        if request.url.endswith("/v1/reports"):
            under_way.add(id(request))
            most = max(most, len(under_way))

    visitor.page.on("request", begin)
    visitor.page.on("requestfinished", lambda request: under_way.discard(id(request)))
    started = time.perf_counter()
    visitor.drop(*known.reports)
    visitor.page.locator("#films li[data-state=read]").nth(7).wait_for()
    visitor.page.locator("#films button").nth(2).click()  # the list answers meanwhile
    visitor.shot("thirty-films-while-read-light")
    visitor.wait_for_all()
    timings["seconds_for_30_films"] = round(time.perf_counter() - started, 2)
    assert most == 4
    assert len(visitor.sent("/v1/reports")) == 30
    names = visitor.page.locator("#films .name").all_inner_texts()
    probabilities = {film.name: report.finding.probability for film, report in known.reports.items()}
    order = [probabilities[name] for name in names]
    assert len(names) == 30
    assert order == sorted(order, reverse=True)
    assert visitor.text("#count") == "30"
    visitor.wait_for_picture()
    visitor.shot("thirty-films-light")


def test_no_room_now_means_that_the_film_waits_and_goes_again(visit: Visit, known: Known) -> None:
    visitor = visit()
    answers = iter([429, 503])

    def answer(route) -> None:
        status = next(answers, None)
        if status is None:
            route.continue_()
        else:
            problem = '{"title": "Queue full", "detail": "no more are admitted"}'
            headers = {"Retry-After": "1", "Content-Type": "application/problem+json"}
            route.fulfill(status=status, headers=headers, body=problem)

    visitor.page.route("**/v1/reports", answer)
    visitor.open().drop(known.skipped)
    visitor.page.locator("#films .state", has_text="Queue full: again in 1 s").wait_for()
    visitor.shot("waiting-dark")
    visitor.wait_for_report()
    assert len(visitor.sent("/v1/reports")) == 3


def test_banner_says_what_the_models_are_for(visit: Visit, known: Known) -> None:
    visitor = visit().open()
    assert "Research use only. Not a medical device" in visitor.text(".banner")
    assert visitor.page.locator("#synthetic").is_hidden()
    visitor.drop(known.skipped).wait_for_report()
    synthetic = known.reports[known.skipped].models.binary.endswith("+synthetic")
    assert visitor.page.locator("#synthetic").is_visible() == synthetic
    assert synthetic
