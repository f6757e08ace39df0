"""Whether the films of NIH's test list are told from those of its train list, and halves of validation are not.

    python -m benchmarks.drift --run runs/nih-128-probe --draws 20

In each draw a random half of the validation patients' films is the reference. As many films of the other half, and as
many of the test list, are compared with it, as ``GET /v1/drift`` would. Prints JSON: in how many draws anything moved,
how often each quantity did, and the medians of the two measures.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from gateway.drift import Change, compare
from handlers.calibration import Platt
from handlers.cascade import Cascade
from handlers.histograms import Histograms
from training.data.films import Films
from training.evaluate import GIVEN, both_logits, labelled, read_evaluation
from training.evaluation.fit_cascade import Fitted
from training.evaluation.reference import reference_of
from training.predict import films_of
from workflows import command_line


def histograms(
    films: Films, pixels: NDArray[np.uint8], logits: NDArray[np.float32], fitted: Fitted, rows: NDArray[np.int64]
) -> Histograms:
    """Of some films, as they would be served; ``logits`` are of all."""
    paths = [Path(path) for path in films.table["path"].iloc[rows]]
    return reference_of(paths, pixels[rows], fitted.score(labelled(films, rows, logits[rows])))


def halves(patients: NDArray[np.str_], rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[N] -> two masks; a patient's films are in one of them."""
    names = rng.permutation(np.unique(patients))
    first = np.isin(patients, names[: len(names) // 2])
    return first, ~first


def measure(run: Path, draws: int, seed: int) -> dict[str, Any]:
    config = yaml.safe_load((run / "disease" / "checkpoint" / "training.yaml").read_text())
    films, pixels = films_of(config)
    evaluation = read_evaluation(run, GIVEN)
    cascade = Cascade.model_validate({name: evaluation[name] for name in ("kind", "calibration", "thresholds")})
    fitted = Fitted(cascade, [Platt.model_validate(one) for one in evaluation[GIVEN]], None, {}, [])
    validation, test = films.rows("validation"), films.rows("test")
    logits = np.zeros((len(films.table), 15), np.float32)
    both = np.concatenate([validation, test])
    logits[both] = both_logits({stage: run / stage / "checkpoint" for stage in ("binary", "disease")}, pixels, both)
    patients, rng = films.table["patient"].to_numpy(dtype=str), np.random.default_rng(seed)
    found: dict[str, list[dict[str, Change]]] = {"validation": [], "test": []}
    number = 0
    for _ in range(draws):
        first, second = (validation[half] for half in halves(patients[validation], rng))
        number = min(len(first), len(second), len(test))
        samples = {"validation": second, "test": test}
        reference = histograms(films, pixels, logits, fitted, first)
        for name, rows in samples.items():
            drawn = rng.choice(rows, number, replace=False)
            found[name].append(compare(reference, histograms(films, pixels, logits, fitted, drawn)))
    view = films.table["view"].to_numpy(dtype=str)
    shares = {"validation": validation, "test": test}
    return {
        "run": run.name,
        "draws": draws,
        "films": number,
        "ap_share": {name: round(float((view[rows] == "AP").mean()), 3) for name, rows in shares.items()},
        **{name: summed_up(changes) for name, changes in found.items()},
    }


def summed_up(draws: Sequence[dict[str, Change]]) -> dict[str, Any]:
    moved = Counter(name for changes in draws for name, change in changes.items() if change.moved)

    def middle(name: str, measure: str) -> float | None:
        known = [value for changes in draws if (value := getattr(changes[name], measure)) is not None]
        return round(float(np.median(known)), 4) if known else None

    return {
        "draws_in_which_something_moved": sum(any(one.moved for one in changes.values()) for changes in draws),
        "moved": dict(moved.most_common()),
        "median": {name: {measure: middle(name, measure) for measure in ("psi", "ks")} for name in draws[0]},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="an evaluated run on NIH's films")
    parser.add_argument("--draws", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    chosen = parser.parse_args(arguments)
    print(json.dumps(measure(chosen.run, chosen.draws, chosen.seed), indent=2))


if __name__ == "__main__":
    command_line.run(main)
