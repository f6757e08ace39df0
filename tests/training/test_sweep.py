"""A sweep searches what it is told to, remembers, and goes on after a kill."""

from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from PIL import Image

from training.fit.config import ConfigError, save_config
from training.sweep import draw_trials, main, print_trials, read_space, sweep
from training.train import NonFiniteLoss
from workflows.files.text_files import DataError

SPACE = """
optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
optim.batch_size: [16, 32]
model.sizes.layers: {low: 1, high: 2}
optim.ema: [null, 0.9]
"""


@pytest.fixture
def shared(tiny_config, tmp_path: Path) -> list[str]:
    save_config(tiny_config("binary", tmp_path / "unused", epochs=1), tmp_path / "config.yaml")
    return ["--config", str(tmp_path / "config.yaml")]


@pytest.fixture
def space(tmp_path: Path):
    (tmp_path / "space.yaml").write_text(SPACE)
    return read_space(tmp_path / "space.yaml")


def test_a_killed_sweep_goes_on_and_repeats_the_trial_it_lost(space, shared, tmp_path: Path, capsys) -> None:
    out = tmp_path / "sweep"
    sweep(space, 1, out, shared)
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{out / 'sweep.db'}")
    lost = study.ask(space)  # what a kill leaves: a trial that never ends
    study = sweep(space, 3, out, shared)
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(finished) == 3
    assert lost.params in [trial.params for trial in finished]
    assert not study.get_trials(states=(TrialState.RUNNING,))
    for trial in finished:
        assert 1e-4 <= trial.params["optim.lr"] <= 1e-2
        resolved = (out / f"trial-{trial.number:03d}" / "training.yaml").read_text()
        assert f"batch_size: {trial.params['optim.batch_size']}" in resolved
        assert f"layers: {trial.params['model.sizes.layers']}" in resolved
    table = pd.read_csv(out / "trials.csv")
    assert table.loc[table["state"] == "COMPLETE", "value"].max() == study.best_value
    print_trials(study)
    assert f"{study.best_value:.4f}" in capsys.readouterr().out
    draw_trials(study, out / "sweep.png")
    assert Image.open(out / "sweep.png").size[0] > 1000


def test_a_sweep_that_goes_on_tries_what_it_has_not_tried(space, shared, tmp_path: Path) -> None:
    for trials in (1, 2, 3):
        study = sweep(space, trials, tmp_path / "sweep", shared)
    assert len({trial.params["optim.lr"] for trial in study.trials}) == 3


def test_a_sweep_in_which_every_trial_diverges_ends_and_says_so(shared, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("optim.lr: [1.0e30]\n")
    with pytest.raises(NonFiniteLoss, match="2 trials failed, as many as were asked for: narrow the space"):
        sweep(read_space(tmp_path / "space.yaml"), 2, tmp_path / "sweep", shared)
    table = pd.read_csv(tmp_path / "sweep" / "trials.csv")
    assert table["state"].tolist() == ["FAIL", "FAIL"]


def test_a_key_that_does_not_exist_is_refused_before_anything_is_trained(shared, tmp_path: Path) -> None:
    (tmp_path / "typo.yaml").write_text("optim.learning_rate: [1.0e-3]\n")
    with pytest.raises(ConfigError, match=r"optim.learning_rate"):
        sweep(read_space(tmp_path / "typo.yaml"), 1, tmp_path / "sweep", shared)
    assert not (tmp_path / "sweep" / "sweep.db").exists()


def test_a_key_that_is_searched_and_set_is_refused(space, shared, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim.lr: searched, and set on the command line too"):
        sweep(space, 1, tmp_path / "sweep", [*shared, "--optim.lr=1e-3"])


def test_a_trial_whose_values_are_refused_fails_and_the_sweep_goes_on(shared, tmp_path: Path, capsys) -> None:
    (tmp_path / "space.yaml").write_text("optim.ema: [null, 2.0, 0.9]\n")
    study = sweep(read_space(tmp_path / "space.yaml"), 2, tmp_path / "sweep", shared)
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 2
    [failed] = study.get_trials(states=(TrialState.FAIL,))
    assert failed.params == {"optim.ema": 2.0}
    assert f"trial {failed.number} failed: optim.ema is 2.0, not in (0, 1)" in capsys.readouterr().err


def test_a_sweep_of_another_space_is_not_gone_on_with(shared, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("optim.batch_size: [16, 32]\n")
    sweep(read_space(tmp_path / "space.yaml"), 1, tmp_path / "sweep", shared)
    (tmp_path / "space.yaml").write_text("optim.batch_size: [8, 64]\n")
    with pytest.raises(DataError, match=r"sweep\.db is of another space .*: name another --out"):
        sweep(read_space(tmp_path / "space.yaml"), 2, tmp_path / "sweep", shared)
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'sweep' / 'sweep.db'}")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.FAIL]


def test_an_entry_that_is_neither_choice_nor_range_is_named(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("optim.lr: 0.1\n")
    with pytest.raises(ValueError, match=r"optim.lr: 0.1 is neither"):
        read_space(tmp_path / "space.yaml")


def test_a_sweep_whose_memory_is_no_database_is_refused_by_its_name(
    shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    out = tmp_path / "sweep"
    out.mkdir()
    (out / "sweep.db").write_bytes(b"no database " * 1000)
    words = ["sweep", "--space", str(tmp_path / "space.yaml"), "--trials", "1", "--out", str(out), *shared]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match=rf"error: {out}/sweep.db: file is not a database"):
        main()
