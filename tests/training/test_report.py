"""The page that a run is handed on with: complete, self-contained, and true to the evaluation."""

import base64
import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from handlers.cascade import Cascade
from handlers.findings import FINDINGS
from tests.html_page import Page
from training.evaluate import evaluate
from training.report.charts import reliability
from training.report.page import pick_films, report
from workflows.files.text_files import DataError


@pytest.fixture(scope="module")
def evaluated(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported")
    for stage in ("binary", "disease"):
        (folder / stage).symlink_to(run / stage)
    evaluate(folder)
    return folder


@pytest.fixture(scope="module")
def single(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cascade's own ungated scores as another model's table, its rows in another order."""
    table = pd.read_csv(evaluated / "predictions.csv", dtype=str).drop(columns="Finding")
    path = tmp_path_factory.mktemp("single") / "<b>other & co.csv"
    table.iloc[::-1].to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def page(evaluated: Path, single: Path) -> Page:
    return Page(report(evaluated, single).read_text(encoding="utf-8"))


def test_the_page_has_every_finding_with_the_evaluations_auc(evaluated: Path, page: Page) -> None:
    evaluation = json.loads((evaluated / "evaluation.json").read_text())
    for name in FINDINGS:
        area = evaluation["test"]["diseases"][name]
        finding, positives, *ways = page.row(name)[:5]
        assert (finding, positives) == (name, str(area["positives"]))
        for shown, way in zip(ways, ("ungated", "gated", "soft"), strict=True):
            assert shown.split(" ")[0] == ("–" if area[way] is None else f"{area[way]:.3f}")
    stage_1 = evaluation["intervals"]["binary"]["labels"]["Finding"]["auc"]
    expected = f"{stage_1['value']:.3f} ({stage_1['low']:.3f}–{stage_1['high']:.3f})"
    assert page.row("Stage 1: any finding")[1] == expected
    assert evaluation["gate"]["why"] in page.text


def test_the_page_says_loudly_that_its_films_are_synthetic(page: Page) -> None:
    assert "SYNTHETIC FILMS, drawn by code: these figures show that the code works, and nothing else." in page.text
    assert "Not a medical device" in page.text
    assert "nihcc" not in page.text  # the films are not NIH's to cite


def test_real_films_are_cited_and_not_called_synthetic(run: Path, sample: Path, tmp_path: Path) -> None:
    for stage in ("binary", "disease"):
        (tmp_path / stage).symlink_to(run / stage)
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["data"]["synthetic"] = False
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    (tmp_path / "predictions.csv").symlink_to(run / "predictions.csv")
    page = Page(report(tmp_path).read_text(encoding="utf-8"))
    assert "SYNTHETIC" not in page.text
    assert "CVPR 2017" in page.text
    assert "single" not in page.text


def test_the_page_needs_nothing_from_outside_itself(evaluated: Path, page: Page) -> None:
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    text = (evaluated / "report" / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"url\(|@import|\bsrcset\b", text)
    pictures = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    pngs = sorted((evaluated / "report").glob("*.png"))
    kind, data = zip(*(picture.split(",") for picture in pictures), strict=True)
    assert set(kind) == {"data:image/png;base64"}
    assert {base64.b64decode(one) for one in data} == {png.read_bytes() for png in pngs}
    for one in data:
        with Image.open(BytesIO(base64.b64decode(one))) as picture:
            assert picture.format == "PNG"
            assert len(np.unique(np.asarray(picture.convert("L")))) > 2
    assert {"labels", "curves", "roc", "pr", "reliability", "aucs", "gallery-1"} <= {png.stem for png in pngs}
    assert sorted(path.name for path in evaluated.glob("report*")) == ["report"]


def test_a_table_differs_from_itself_by_nothing(evaluated: Path, page: Page) -> None:
    """Rows are matched by film, not by place; the gate and the product do make a difference."""
    mean = json.loads((evaluated / "evaluation.json").read_text())["test"]["mean_auc"]
    _, own, ungated, gated, soft = next(row for row in page.rows if row[0] == "mean" and row[2].startswith("+0.000"))
    assert ungated == "+0.000 (+0.000 to +0.000)"
    assert own.startswith(f"{mean['ungated']:.3f} (")
    assert gated.startswith(f"{mean['gated'] - mean['ungated']:+.3f} (")
    assert soft.startswith(f"{mean['soft'] - mean['ungated']:+.3f} (")


def test_what_a_file_is_called_stays_text(page: Page) -> None:
    assert "<b>other & co.csv" in page.text
    assert "b" not in {tag for tag, _ in page.tags}


def test_a_single_model_without_a_test_film_is_refused(evaluated: Path, single: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.csv"
    pd.read_csv(single).iloc[1:].to_csv(short, index=False)
    before = (evaluated / "report" / "report.html").read_bytes()
    with pytest.raises(DataError, match="1 of the films to score have no row"):
        report(evaluated, short)
    assert (evaluated / "report" / "report.html").read_bytes() == before


def test_an_evaluation_of_an_older_form_is_refused(evaluated: Path, tmp_path: Path) -> None:
    evaluation = json.loads((evaluated / "evaluation.json").read_text())
    del evaluation["intervals"]
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    with pytest.raises(DataError, match="older form, without intervals"):
        report(tmp_path)


def test_the_boxes_are_shown_where_they_were_scored(evaluated: Path, single: Path) -> None:
    share = {"yes": 3, "share": 0.75, "low": 0.194, "high": 0.994}
    summary = {"boxes": 4, **{name: {"pointing": share, "hit": share} for name in ("heatmap", "place", "centre")}}
    data = {"folder": "boxed", "synthetic": True}
    scored = {"data": data, "boxes": 4, "films": 4, "findings": {"Mass": summary}, "overall": summary}
    (evaluated / "localisation.json").write_text(json.dumps(scored))
    try:
        page = Page(report(evaluated).read_text(encoding="utf-8"))
    finally:
        (evaluated / "localisation.json").unlink()
    assert page.row("Mass", "4") == ["Mass", "4", *["75 (19–99)"] * 6]
    assert page.row("all")[:2] == ["all", "4"]


def scores_of(**probabilities: float) -> list[float]:
    return [probabilities.get(name, 0.01) for name in FINDINGS]


def test_the_gallery_follows_its_rule() -> None:
    """The gate is at 0.3, every finding's threshold at 0.5."""
    films: list[tuple[set[str], float, list[float]]] = [
        ({"Mass"}, 0.9, scores_of(Mass=0.7)),  # 0: right, but two others are surer
        ({"Mass"}, 0.9, scores_of(Mass=0.8, Edema=0.99)),  # 1: right at 0.8; Edema, wrong, does not count
        ({"Hernia", "Edema"}, 0.4, scores_of(Hernia=0.9)),  # 2: right at 0.9
        ({"Edema"}, 0.2, scores_of(Edema=0.99)),  # 3: missed, for the gate stopped it
        ({"Edema"}, 0.9, scores_of(Mass=0.99)),  # 4: missed, but stage 1 saw something
        ({"Nodule"}, 0.1, scores_of()),  # 5: missed, surest
        (set(), 0.8, scores_of(Mass=0.6)),  # 6: false alarm
        (set(), 0.3, scores_of(Mass=0.5, Edema=0.75)),  # 7: false alarm, surer; the gate is reached
        (set(), 0.25, scores_of(Mass=0.97)),  # 8: clear, for the gate stopped it
        (set(), 0.05, scores_of()),  # 9: clear, surest
        (set(), 0.6, scores_of(Mass=0.49)),  # 10: clear
    ]
    targets = np.array([[bool(truth), *(name in truth for name in FINDINGS)] for truth, _, _ in films]).astype(np.int8)
    finding = np.array([one for _, one, _ in films])
    diseases = np.array([one for _, _, one in films])
    cascade = Cascade(thresholds={"Finding": 0.3, **dict.fromkeys(FINDINGS, 0.5)})
    assert pick_films(targets, finding, diseases, cascade) == [
        ("true positive", 2),
        ("true positive", 1),
        ("missed", 5),
        ("missed", 3),
        ("false alarm", 7),
        ("true negative", 9),
    ]
    healthy = slice(8, None)
    assert pick_films(targets[healthy], finding[healthy], diseases[healthy], cascade) == [("true negative", 1)]


def test_a_reliability_bin_is_its_mean_score_and_its_share_of_positives() -> None:
    """15 bins: 1/15 itself is in the first, 0.1 in the second, 1 in the last."""
    scores = np.array([0.0, 1 / 15, 0.1, 0.12, 1.0])
    assert reliability(np.array([0, 1, 0, 0, 1], np.int8), scores) == [
        (0, pytest.approx(1 / 30), 0.5, 2),
        (1, pytest.approx(0.11), 0.0, 2),
        (14, 1.0, 1.0, 1),
    ]
