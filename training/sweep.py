"""Searches any keys of the training configuration for the best validation AUC, with Optuna.

    python -m training.sweep --space training/configs/sweep.yaml --trials 20 --out runs/sweep \
        --config training/configs/small.yaml --stage disease --data.folder DIR

Whatever the sweep itself does not know is handed to every trial's training. The same command again, after a kill or
with more trials, goes on where it stopped. Writes ``trials.csv``, ``sweep.png`` and a run folder per trial.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from training.fit.config import ConfigError, parse_config
from training.fit.run_folder import best_auc
from training.train import NonFiniteLoss, checked_films, train
from workflows import command_line
from workflows.files.atomic import naming, write_text, written
from workflows.files.text_files import DataError, read_text

Space = dict[str, BaseDistribution]


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.sweep") -> None:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", type=Path, required=True, help="YAML: which keys, and which values of each")
    parser.add_argument("--trials", type=int, required=True, help="how many finished trials the sweep is to have")
    parser.add_argument("--out", type=Path, required=True, help="folder of the sweep")
    chosen, training = parser.parse_known_args(arguments)
    try:
        with naming(chosen.out / "sweep.db"):
            study = sweep(read_space(chosen.space), chosen.trials, chosen.out, training)
    except (StorageInternalError, SQLAlchemyError) as fault:  # locked by another sweep, damaged, on a broken disk
        known = fault if isinstance(fault, DBAPIError) else fault.__cause__
        sys.exit(f"error: {chosen.out / 'sweep.db'}: {known.orig if isinstance(known, DBAPIError) else fault}")
    print_trials(study)
    draw_trials(study, chosen.out / "sweep.png")


def read_space(path: Path) -> Space:
    """A list is a choice; ``{low: …, high: …}`` a range, with ``log: true`` on a logarithmic scale.

    Raises:
        DataError: not YAML, no keys, or an entry that is neither.
        FileNotFoundError: no such file.
    """
    try:
        entries = yaml.safe_load(read_text(path))
    except yaml.YAMLError as fault:
        raise DataError(f"{path}: not a YAML document ({fault})") from fault
    if not entries or not isinstance(entries, dict):
        raise DataError(f"{path}: keys of the training configuration are wanted, with the values to try of each")
    try:
        return {key: _distribution(key, entry) for key, entry in entries.items()}
    except ValueError as fault:  # optuna's too: no values, or a range that is none
        raise DataError(f"{path}: {fault}") from fault


def sweep(space: Space, trials: int, out: Path, training: list[str]) -> optuna.Study:
    """Trains until ``trials`` trials have finished; a trial that a kill cut off is run again.

    Args:
        space: what to search.
        trials: how many finished trials there are to be, those of earlier calls included.
        out: folder; ``sweep.db`` in it remembers.
        training: arguments of ``training.train`` that all trials share.

    Raises:
        DataError: the data folder cannot be trained on.
        ConfigError: a key is unknown, is in ``training`` and in ``space``, or a value cannot be meant.
        NonFiniteLoss: as many trials have failed in this call as were to finish.
    """
    if both := [key for key in space if any(word.split("=")[0] == f"--{key}" for word in training)]:
        raise ConfigError(f"{', '.join(both)}: searched, and set on the command line too; leave it out of one of them")
    out.mkdir(parents=True, exist_ok=True)
    examples = _overrides({key: _example(of) for key, of in space.items()})
    checked_films(parse_config([*training, f"--out={out / 'check'}", *examples])[0])
    database = out / "sweep.db"
    study = optuna.create_study(
        storage=f"sqlite:///{database}", study_name="sweep", direction="maximize", load_if_exists=True
    )
    for cut_off in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(cut_off.number, state=TrialState.FAIL)
        study.enqueue_trial(cut_off.params)
    # A sampler does not remember what it has drawn: with the seed of the first call it would draw the same again.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    failed = 0
    while len(_finished(study)) < trials:
        try:
            trial = study.ask(space)  # Study.optimize would print the traceback of every fault
        except ValueError as fault:
            study.tell(study.trials[-1].number, state=TrialState.FAIL)
            raise DataError(f"{database} is of another space ({fault}): name another --out") from fault
        folder = f"--out={out / f'trial-{trial.number:03d}'}"
        try:
            area = best_auc(train(parse_config([*training, folder, *_overrides(trial.params)])[0]))
            if area is None:
                raise DataError("validation holds no label with both outcomes: nothing to search by")
            study.tell(trial, area)
        except (DataError, OSError):
            study.tell(trial, state=TrialState.FAIL)
            raise
        except (NonFiniteLoss, ConfigError) as fault:  # it diverged, or its values do not go together
            study.tell(trial, state=TrialState.FAIL)
            print(f"trial {trial.number} failed: {fault}", file=sys.stderr)
            failed += 1
        table = study.trials_dataframe(attrs=("number", "value", "state", "params", "duration"))
        write_text(out / "trials.csv", table.to_csv(index=False))
        if failed == trials:
            raise NonFiniteLoss(f"{failed} trials failed, as many as were asked for: narrow the space")
    return study


def print_trials(study: optuna.Study) -> None:
    """The finished trials, best first."""
    table = Table(title=f"{len(_finished(study))} trials by validation AUC")
    keys = list(study.best_trial.params)
    for column in ("trial", "AUC", *keys):
        table.add_column(column, justify="right")
    for trial in sorted(_finished(study), key=lambda trial: trial.values[0], reverse=True):
        values = (
            f"{trial.params[key]:.4g}" if isinstance(trial.params[key], float) else str(trial.params[key])
            for key in keys
        )
        table.add_row(str(trial.number), f"{trial.values[0]:.4f}", *values)
    Console(width=120).print(table)


def draw_trials(study: optuna.Study, path: Path) -> None:
    """Validation AUC against each searched key, a panel a key."""
    keys, finished = list(study.best_trial.params), _finished(study)
    areas = [trial.values[0] for trial in finished]
    figure = Figure(figsize=(3.2 * len(keys), 3.2))
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)
    for panel, key in zip(panels[0], keys, strict=True):
        of = study.best_trial.distributions[key]
        values = [trial.params[key] for trial in finished]
        choice = isinstance(of, CategoricalDistribution)
        panel.scatter([str(value) for value in values] if choice else values, areas)
        panel.set(xlabel=key, xscale="log" if getattr(of, "log", False) else panel.get_xscale())
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("validation AUC")
    figure.tight_layout()
    with written(path) as new:
        figure.savefig(new, dpi=120, format="png")


def _distribution(key: str, entry: Any) -> BaseDistribution:
    match entry:
        case list():
            return CategoricalDistribution(entry)
        case {"low": int(), "high": int(), **more} if more.keys() <= {"log"}:
            return IntDistribution(**entry)
        case {"low": int() | float(), "high": int() | float(), **more} if more.keys() <= {"log"}:
            return FloatDistribution(**entry)
    raise DataError(f"{key}: {entry!r} is neither a list of values nor {{low: …, high: …, log: …}}")


def _example(of: BaseDistribution) -> Any:
    return of.choices[0] if isinstance(of, CategoricalDistribution) else of.low  # type: ignore[attr-defined]


def _overrides(chosen: dict[str, Any]) -> list[str]:
    return [f"--{key}={'null' if value is None else value}" for key, value in chosen.items()]


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(states=(TrialState.COMPLETE,))


if __name__ == "__main__":
    command_line.run(main)
