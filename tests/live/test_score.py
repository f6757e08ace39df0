"""A folder of films through the live service becomes a table that the evaluation scores as the run's own."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from client import score as command
from handlers.findings import FINDINGS
from tests.gateway.conftest import Gateway
from training.data.films import read_table
from training.evaluation.score import score

TOLERANCE = 1e-4
"""Of a probability: the ViT rounds otherwise in another batch."""


@pytest.fixture
def words(gateway: Gateway, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command's arguments, for the test list."""
    monkeypatch.setenv("CXR_KEY", gateway.key)
    table = str(tmp_path / "served.csv")
    return [str(sample), "--list", str(sample / "test_list.txt"), "--out", table, "--address", gateway.url]


def gated(run: Path) -> pd.DataFrame:
    """The run's own predictions, with zeros where its gate skips a film."""
    table = pd.read_csv(run / "predictions.csv")
    threshold = json.loads((run / "evaluation.json").read_text())["thresholds"]["Finding"]
    table.loc[table["Finding"].astype(np.float32) < np.float32(threshold), list(FINDINGS)] = 0.0  # as the nodes compare
    return table


def test_the_served_table_scores_as_the_run_s_own_gated_predictions(
    words: list[str], run: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(words) == 0
    own = gated(run)
    own.to_csv(tmp_path / "own.csv", index=False)
    served = pd.read_csv(tmp_path / "served.csv").set_index("Image Index").loc[own["Image Index"]]
    assert f"{len(own)} films, {len(own)} read" in capsys.readouterr().out
    assert served["routed"].tolist() == own[list(FINDINGS)].any(axis=1).tolist()
    assert 0 < served["routed"].sum() < len(own)
    columns = ["Finding", *(f"prob_{name}" for name in FINDINGS)]
    np.testing.assert_allclose(served[columns], own[["Finding", *FINDINGS]], atol=TOLERANCE)
    found, expected = (score(tmp_path / name, read_table(sample))["scores"] for name in ("served.csv", "own.csv"))
    for stage in ("finding", "diseases"):
        for name, label in expected[stage]["labels"].items():
            assert found[stage]["labels"][name]["auc"] == label["auc"], name
    assert found["diseases"]["mean_auc"] == expected["diseases"]["mean_auc"]


def test_a_file_that_is_no_film_is_refused_by_name_and_the_others_are_read(
    words: list[str], film_paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for film in film_paths[:5]:
        (folder / film.stem).write_bytes(film.read_bytes())  # as DICOM files lie: without a suffix
    (folder / "cut.png").write_bytes(film_paths[5].read_bytes()[:2000])
    assert command.main([str(folder), *words[3:]]) == 4
    table = pd.read_csv(tmp_path / "served.csv", keep_default_na=False).set_index("Image Index")
    assert table["error"].to_dict() == {film.stem: "" for film in film_paths[:5]} | {"cut.png": "TruncatedImage"}
    assert "6 films, 5 read\n1 refused: cut.png (TruncatedImage)" in capsys.readouterr().out
