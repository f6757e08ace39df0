"""The model card: whole, true to the evaluation, honest about its films, and a page that loads nothing else."""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from safetensors.numpy import load_file

from handlers.findings import FINDINGS
from tests.html_page import Page
from training.archive import archive
from training.evaluation.model_card import CardError, main, model_card, model_card_html
from training.recalibrate import recalibrate

LOADING = {"script", "link", "img", "iframe", "object", "embed", "video", "audio", "source", "base", "form"}


def rows_of(card: str) -> dict[str, list[str]]:
    """The card's table rows by their first cell."""
    lines = [line for line in card.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("*"): row[1:] for row in rows}


def area(of: dict[str, float | None]) -> str:
    return "–" if of["value"] is None else f"{of['value']:.3f} ({of['low']:.3f}–{of['high']:.3f})"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


@pytest.fixture(scope="module")
def store(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    archive(run, folder, "1.2.3")
    return folder


@pytest.fixture(scope="module")
def evaluation(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def card(store: Path) -> str:
    return model_card(store)


@pytest.fixture
def edited(store: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """The store with the metadata of both archives changed."""

    def edit(change: Callable[[dict[str, Any]], None]) -> Path:
        folder = tmp_path / "edited"
        folder.mkdir()
        for name in ("binary.mar", "disease.mar"):
            with zipfile.ZipFile(store / name) as old, zipfile.ZipFile(folder / name, "w") as new:
                for item in old.infolist():
                    content = old.read(item)
                    if item.filename == "metadata.json":
                        metadata = json.loads(content)
                        change(metadata)
                        content = json.dumps(metadata).encode()
                    new.writestr(item, content)
        return folder

    return edit


def test_the_front_matter_is_the_hubs_with_the_evaluations_results(card: str, evaluation: dict[str, Any]) -> None:
    data = ModelCard(card).data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "apache-2.0",
        "transformers",
        "image-classification",
    )
    assert "synthetic" in data.tags
    assert data.datasets == ["sample"]
    assert data.base_model is None
    assert data.model_name == "CXR Cascade"
    found = {one.metric_name: one.metric_value for one in data.eval_results}
    test = evaluation["test"]
    areas = {f"AUC of {name.replace('_', ' ')}, gated": test["diseases"][name]["gated"] for name in FINDINGS}
    means = {f"Mean AUC of the 14 findings, {way}": value for way, value in test["mean_auc"].items()}
    stage_1 = {
        "AUC of any finding (stage 1)": test["binary"]["auc"],
        "Sensitivity to any finding (stage 1, as served)": test["binary"]["sensitivity"],
        "Specificity to any finding (stage 1, as served)": test["binary"]["specificity"],
    }
    expected = {name: value for name, value in (areas | means | stage_1).items() if value is not None}
    assert found == pytest.approx(expected, abs=5e-5)
    assert all(one.dataset_name == "sample (synthetic films)" for one in data.eval_results)


def test_every_findings_figures_are_the_evaluations(card: str, evaluation: dict[str, Any]) -> None:
    rows, intervals, test = rows_of(card), evaluation["intervals"], evaluation["test"]
    stage_1 = intervals["binary"]["labels"]["Finding"]
    assert rows["stage 1: any finding"] == [area(stage_1["auc"])]
    assert rows["mean of the 14, gated: what is served"] == [area(intervals["gated"]["mean_auc"])]
    for name in FINDINGS:
        assert rows[name.replace("_", " ")] == [
            str(test["diseases"][name]["positives"]),
            *(area(intervals[way]["labels"][name]["auc"]) for way in ("ungated", "gated", "soft")),
            number(evaluation["thresholds"][name]),
            number(test["served"][name]["sensitivity"]),
            number(test["served"][name]["specificity"]),
        ]
    assert rows["any (stage 1)"][-3:] == [
        number(evaluation["thresholds"]["Finding"]),
        number(test["binary"]["sensitivity"]),
        number(test["binary"]["specificity"]),
    ]


def test_data_calibration_and_gate_are_the_evaluations(card: str, evaluation: dict[str, Any]) -> None:
    rows, gate = rows_of(card), evaluation["gate"]
    for of in ("films", "patients"):
        assert rows[of] == [str(evaluation["data"][of][split]) for split in ("train", "validation", "test")]
    for split, errors in evaluation["calibration_error"].items():
        cells = [number(errors["Finding"][measure][way]) for measure in ("ece", "brier") for way in ("before", "after")]
        assert rows[f"{split}: any finding (stage 1)"] == cells
        mean = sum(errors[name]["ece"]["after"] for name in FINDINGS) / 14
        assert rows[f"{split}: mean of the 14"][1] == number(mean)
    chosen = next(row for row in gate["table"] if row["sensitivity"] == gate["sensitivity"])
    for split in ("validation", "test"):
        assert rows[split][:2] == [number(chosen[split]["sensitivity"]), number(chosen[split]["specificity"])]
        assert rows[split][2] == f"{100 * chosen[split]['skipped']:.1f}%"
    assert f"the gate for sensitivity {gate['sensitivity']}, {gate['why']}." in card
    routed = evaluation["routed"]
    assert f"{routed['validation']} validation films, {routed['test']} test films." in card
    for names, said in (
        ("uncalibrated", "Not calibrated"),
        ("without_slope", "Calibrated by the intercept alone"),
        ("without_threshold", "With a threshold of 0.5, which nothing chose"),
    ):
        listed = card.split(said)[1].split(".\n")[0] if evaluation[names] else ""
        assert all(name.replace("_", " ") in listed for name in evaluation[names]), names


def test_every_subgroup_has_its_row_and_a_blank_one_its_reason(
    card: str, evaluation: dict[str, Any], edited: Callable[..., Path]
) -> None:
    rows = rows_of(card)
    assert len(evaluation["subgroups"]) >= 9
    for part in evaluation["subgroups"]:
        assert rows[f"{part['by']}: {part['group']}"][:2] == [str(part["films"]), str(part["patients"])]
        assert part["blank"]  # eight patients are too few
        assert f"- {part['by']} {part['group']}: {part['blank']}." in card
    interval = {"value": 0.7125, "low": 0.6, "high": 0.8}
    figures = {"auc": interval, "sensitivity": 0.91, "specificity": 0.25, "mean_auc": interval, "findings": 12}

    def fill(metadata: dict[str, Any]) -> None:
        if metadata["stage"] == "disease":
            metadata["metrics"]["subgroups"][0].update({**figures, "blank": None})

    filled = model_card(edited(fill))
    shown = area(interval)
    assert rows_of(filled)["sex: F"][3:] == [shown, "0.910", "0.250", shown, "12"]
    assert "- sex F:" not in filled


def test_the_two_models_are_described_from_their_archives(card: str, store: Path, run: Path) -> None:
    rows = rows_of(card)
    assert rows["version"] == ["1.2.3+synthetic"] * 2
    assert rows["image size"] == ["32 × 32 px"] * 2
    assert rows["layers, width, heads"] == ["2, 32, 2"] * 2
    assert rows["start"] == ["random weights"] * 2
    weights = [load_file(run / stage / "checkpoint" / "model.safetensors") for stage in ("binary", "disease")]
    assert rows["parameters"] == [f"{sum(tensor.size for tensor in one.values()):,}" for one in weights]
    for name in ("binary.mar", "disease.mar"):
        assert rows[f"`{name}`"][2] == f"`{hashlib.sha256((store / name).read_bytes()).hexdigest()}`"


def test_synthetic_films_are_said_loudly_and_first(card: str, store: Path) -> None:
    assert "SYNTHETIC FILMS, drawn by code" in card.split("## Model Details")[0]
    text = Page(model_card_html(store)).text
    assert "SYNTHETIC FILMS, drawn by code: these models have seen no patient." in " ".join(text.split())
    assert "Not a medical device" in card


def test_real_films_are_cited_and_not_called_synthetic(edited: Callable[..., Path]) -> None:
    card = model_card(edited(lambda metadata: metadata["data"].update(synthetic=False)))
    assert "synthetic" not in card.lower().replace("1.2.3+synthetic", "")
    for words in (
        "CVPR 2017",
        "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        "One hospital",
        "about one in ten may be",
    ):
        assert words in card


def test_an_interval_that_holds_chance_is_said_to(edited: Callable[..., Path]) -> None:
    def set_interval(low: float) -> Callable[[dict[str, Any]], None]:
        def change(metadata: dict[str, Any]) -> None:
            if metadata["stage"] == "binary":
                area = {"value": 0.55, "low": low, "high": 0.6}
                metadata["metrics"]["intervals"]["binary"]["labels"]["Finding"]["auc"] = area

        return change

    folder = edited(set_interval(0.49))
    assert "Stage 1's interval holds 0.5, which is chance." in model_card(folder)
    shutil.rmtree(folder)
    assert "Stage 1's interval holds 0.5" not in model_card(edited(set_interval(0.51)))


def test_a_recalibrated_pair_says_whose_thresholds_it_has(store: Path, sample: Path, tmp_path: Path) -> None:
    recalibrate(store, sample, tmp_path / "site")
    with zipfile.ZipFile(tmp_path / "site" / "binary.mar") as packed:
        binary = json.loads(packed.read("metadata.json"))
    card = model_card(tmp_path / "site")
    record = binary["recalibrated"]
    assert (
        f"**Recalibrated on sample**: {record['films']} films of {record['patients']} patients, drawn by code" in card
    )
    assert f"The threshold now is {binary['thresholds']['Finding']:.3f}." in card
    assert "measured before that" in card
    assert rows_of(card)["version"] == ["1.2.3+synthetic.site.1"] * 2


def test_the_page_loads_nothing_and_runs_nothing(store: Path) -> None:
    html = model_card_html(store)
    page = Page(html)
    assert {tag for tag, _ in page.tags} & LOADING <= {"link"}
    assert [attributes for tag, attributes in page.tags if tag == "link"] == [{"rel": "icon", "href": "data:,"}]
    assert not re.findall(r"url\(|@import|\bsrc=|\bsrcset=|\bon[a-z]+=|style=", html)
    assert "prefers-color-scheme: dark" in html
    assert {tag for tag, _ in page.tags} >= {"table", "h1", "h2", "pre"}
    assert "| ---" not in page.text
    assert "license: apache-2.0" not in page.text


def test_what_a_folder_is_called_stays_text(edited: Callable[..., Path]) -> None:
    name = "<img src=x onerror=alert(1)>|*films* [a](javascript:b) `c` \\ __d__ & e_f"
    folder = edited(lambda metadata: metadata["data"].update(folder=name))
    html = model_card_html(folder)
    page = Page(html)
    assert "img" not in {tag for tag, _ in page.tags}
    assert name in page.text
    assert all(str(attributes.get("href")).startswith("https://") for tag, attributes in page.tags if tag == "a")
    assert ModelCard(model_card(folder)).data.datasets == [name]


def test_the_command_writes_the_card_whole(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "MODEL_CARD.md"
    main(["--store", str(store), "--out", str(out)])
    assert out.read_text(encoding="utf-8") == model_card(store)
    assert list(tmp_path.iterdir()) == [out]


def test_archives_without_a_card_in_them_are_refused_with_what_to_do(
    edited: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(CardError, match=r"binary\.mar is not there: run 'make archive' first"):
        main(["--store", str(tmp_path)])
    older = edited(lambda metadata: metadata["metrics"].pop("subgroups", None))
    with pytest.raises(CardError, match=r"'subgroups'.* older form"):
        model_card(older)
    (older / "binary.mar").write_bytes(b"PK\x03\x04 half an archive")
    with pytest.raises(CardError, match=r"binary\.mar is no archive of this project's"):
        model_card_html(older)
