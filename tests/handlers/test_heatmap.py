"""Heatmaps in a report: for those who ask, of what they ask for, in the film's own coordinates, or not at all."""

import json
from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from handlers.cascade import Cascade
from handlers.decoding.image import read_film, to_pixels
from handlers.disease_handler import DiseaseHandler
from handlers.findings import FINDINGS
from handlers.message import pack
from handlers.networks import heatmap as module
from handlers.networks.explain import relevance, relevances
from handlers.networks.heatmap import LONGEST, PRESENT, Wanted, findings_asked, heatmaps_of, to_png
from handlers.networks.vit import Vit
from handlers.reading import Naming, Screening
from handlers.report import Refusal, Report, Score, parse_answer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stages(unpacked: dict[str, Path]) -> tuple[Screening, Naming]:
    """Both stages; every film is routed."""
    screening = Screening(unpacked["binary"], CPU)
    screening.cascade = Cascade(thresholds={"Finding": 0.0})
    return screening, Naming(unpacked["disease"], CPU)


@pytest.fixture
def read(stages: tuple[Screening, Naming]) -> Callable[..., list[Report | Refusal]]:
    """Films and the options of some, by place, through both stages and back from JSON."""
    screening, naming = stages

    def through(films: list[bytes], heatmaps: dict[int, str]) -> list[Report | Refusal]:
        reports = naming.name(screening.screen(films, heatmaps))
        return [parse_answer(report.model_dump_json()) for report in reports]

    return through


def picture(png: str) -> Image.Image:
    return Image.open(BytesIO(b64decode(png, validate=True)), formats=("PNG",))


def wide(path: Path, orientation: int = 1) -> bytes:
    """The film as JPEG of 300 x 200 px, with an EXIF orientation."""
    exif, file = Image.Exif(), BytesIO()
    exif[0x0112] = orientation
    Image.open(path).convert("L").resize((300, 200)).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    ("option", "findings"),
    [
        ("Effusion", ("Effusion",)),
        ("Mass,Effusion,Mass", ("Mass", "Effusion")),
        (",".join(FINDINGS), FINDINGS),
        ("all-present", ()),
    ],
)
def test_findings_are_asked_for_by_name(option: str, findings: tuple[str, ...]) -> None:
    assert findings_asked(option) == findings


@pytest.mark.parametrize(
    "option", ["", "effusion", "Effusion, Mass", "Effusion,", "Finding", "Mass,all-present", "é" * 99]
)
def test_another_name_is_refused_with_the_names_that_are_good(read, film_paths: list[Path], option: str) -> None:
    film = film_paths[0].read_bytes()
    plain, refused = read([film, film], {1: option})
    assert isinstance(plain, Report)
    assert (refused.error.code, refused.error.type) == (400, "UnknownFinding")
    assert all(name in refused.error.message for name in (*FINDINGS, PRESENT))
    assert len(refused.error.message) < 400


def test_a_map_is_the_offline_method_s_stretched_to_the_film(stages, read, film_paths: list[Path]) -> None:
    films = [wide(path) for path in film_paths[:6]]
    vit = stages[1].vit
    reports = read(films, dict.fromkeys(range(6), "Mass,Effusion"))
    pixels = np.stack([to_pixels(read_film(film), vit.image_size) for film in films])
    for name in ("Mass", "Effusion"):
        for report, offline in zip(reports, relevance(vit, pixels, FINDINGS.index(name)), strict=True):
            assert set(report.heatmaps) == {"Mass", "Effusion"}
            map_ = picture(report.heatmaps[name])
            assert (map_.mode, map_.size) == ("L", (300, 200))
            expected = Image.fromarray(offline * 255.0).resize((300, 200), Image.Resampling.BILINEAR)
            assert np.abs(np.asarray(map_, float) - np.asarray(expected)).max() <= 1.5
            assert np.asarray(map_).max() > 200


def test_a_turned_film_s_map_lies_as_the_film_is_shown(read, film_paths: list[Path]) -> None:
    (report,) = read([wide(film_paths[0], orientation=6)], {0: "Mass"})
    assert picture(report.heatmaps["Mass"]).size == (200, 300)


def test_all_present_is_what_the_report_calls_present(stages, read, film_paths: list[Path], monkeypatch) -> None:
    films = [path.read_bytes() for path in film_paths[:5]]
    middle = [report.diseases["Edema"].probability for report in read(films, {})]
    thresholds = dict.fromkeys(FINDINGS, 1.0) | {"Mass": 0.0, "Edema": sorted(middle)[2]}
    monkeypatch.setattr(stages[1], "cascade", stages[1].cascade.model_copy(update={"thresholds": thresholds}))
    reports = read(films, dict.fromkeys(range(5), "all-present"))
    for report in reports:
        assert set(report.heatmaps) == {name for name, score in report.diseases.items() if score.present}
    assert {len(report.heatmaps) for report in reports} == {1, 2}


def test_a_film_that_stage_2_did_not_see_has_no_map(stages, read, film_paths, monkeypatch) -> None:
    monkeypatch.setattr(stages[0], "cascade", Cascade(thresholds={"Finding": 1.0}))
    (report,) = read([film_paths[0].read_bytes()], {0: "Mass"})
    assert (report.routed, report.heatmaps) == (False, {})


def test_only_who_asks_pays(stages, read, film_paths: list[Path], monkeypatch) -> None:
    """A report without heatmaps is byte for byte what it was, also beside a film with some."""
    films = [path.read_bytes() for path in film_paths[:3]]
    made: list[int] = []
    monkeypatch.setattr(module, "relevances", lambda *asked: made.append(len(asked[1])) or relevances(*asked))
    alone = read(films, {})
    assert made == []
    assert not any("heatmaps" in json.loads(one.model_dump_json()) for one in alone)
    together = read(films, {1: "Mass"})
    assert made == [1]
    assert [one.model_copy(update={"heatmaps": None}) for one in together] == alone
    assert [one.heatmaps is None for one in together] == [True, False, True]


def test_maps_that_fail_cost_no_report_and_no_other_film_s_maps(read, film_paths, monkeypatch, caplog) -> None:
    films = [path.read_bytes() for path in film_paths[:4]]

    def broken(vit: Vit, pixels: np.ndarray, labels: list[int]) -> np.ndarray:
        if FINDINGS.index("Mass") in labels:
            raise torch.cuda.OutOfMemoryError
        return relevances(vit, pixels, labels)

    plain = read(films, {})
    monkeypatch.setattr(module, "relevances", broken)
    reports = read(films, {0: "Effusion", 1: "Effusion,Mass", 2: "Hernia", 3: "Mass"})
    assert [set(report.heatmaps) for report in reports] == [{"Effusion"}, set(), {"Hernia"}, set()]
    assert [report.model_copy(update={"heatmaps": None}) for report in reports] == plain
    assert "no heatmap of Effusion, Mass" in caplog.text
    assert "3 of 5 heatmaps are missing" in caplog.text


def test_the_maps_of_a_batch_have_a_time_limit_and_who_wants_few_comes_first(stages, monkeypatch, caplog) -> None:
    clock, seen = SimpleNamespace(now=0.0), list[int]()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def slow(vit: Vit, pixels: np.ndarray, labels: list[int]) -> np.ndarray:
        clock.now += module.SECONDS / 2
        seen.append(len(labels))
        return np.zeros((len(labels), *pixels.shape), np.float32)

    monkeypatch.setattr(module, "relevances", slow)
    pixels = np.zeros((32, 32), np.uint8)
    wanted = [FINDINGS, ["Hernia"], ["Mass", "Edema"], []]
    maps = heatmaps_of(stages[1].vit, [Wanted(pixels, names, (64, 64)) for names in wanted])
    assert seen == [1, 2]
    assert [list(one) for one in maps] == [[], ["Hernia"], ["Mass", "Edema"], []]
    assert "14 of 17 heatmaps are missing" in caplog.text


@pytest.mark.parametrize(
    ("shape", "size"), [((2500, 2048), (2048, 2500)), ((5120, 4096), (2048, LONGEST)), ((32, 10_000), (LONGEST, 8))]
)
def test_a_map_is_as_large_as_its_film_up_to_a_limit(shape: tuple[int, int], size: tuple[int, int]) -> None:
    ramp = np.linspace(0.0, 1.0, 224, dtype=np.float32)[None].repeat(224, axis=0)
    png = Image.open(BytesIO(to_png(ramp, shape)))
    assert (png.mode, png.size) == ("L", size)
    row = np.asarray(png)[0].astype(int)
    assert (row[0], row[-1]) == (0, 255)
    assert (np.diff(row) >= 0).all()


def test_the_handler_counts_maps_and_answers_what_it_cannot_draw(stages, film_paths: list[Path]) -> None:
    screening, naming = stages
    totals: dict[str, int] = {}
    handler, metrics = DiseaseHandler(), SimpleNamespace(add_counter=totals.__setitem__)
    handler.naming = naming
    film = film_paths[0].read_bytes()
    messages = [pack(one) for one in screening.screen([film] * 3, {0: "Mass,Hernia", 1: "Mass"})]
    answers = handler.handle([{"body": bytearray(one)} for one in messages], SimpleNamespace(metrics=metrics))
    assert [len(parse_answer(answer).heatmaps or {}) for answer in answers] == [2, 1, 0]
    assert b"heatmaps" not in answers[2]
    assert (totals["cxr_disease_films"], totals["cxr_heatmaps"]) == (3, 3)
    assert isinstance(parse_answer(answers[0]).finding, Score)
