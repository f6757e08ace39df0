"""Whether the films of NIH's test list are told from those of its train list, and halves of validation are not.

    python -m benchmarks.drift --run runs/nih-128-probe --draws 20

In each draw as many films of the test list as half of validation has are compared with all validation films, as
``GET /v1/drift`` compares a window of films with the archives; and two halves of validation with each other, drawn by
patient and, whoever's they are, by film. Prints JSON: in how many draws anything moved, how often each quantity did,
and the two measures.
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
from training.data.films import Films
from training.evaluate import GIVEN, both_logits, labelled, read_evaluation
from training.evaluation.fit_cascade import Fitted
from training.evaluation.reference import Reference, reference_of
from training.predict import films_of
from workflows import command_line


def seen_as(
    films: Films, pixels: NDArray[np.uint8], logits: NDArray[np.float32], fitted: Fitted, rows: NDArray[np.int64]
) -> Reference:
    """Of some films, as they would be served; ``logits`` are of all."""
    paths: list[Path] = films.table["path"].iloc[rows].tolist()
    of = labelled(films, rows, logits[rows])
    return reference_of(paths, pixels[rows], fitted.score(of), of.patients)


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
    found: dict[str, list[dict[str, Change]]] = {"validation by patient": [], "validation by film": [], "test": []}
    number = 0

    def of(rows: NDArray[np.int64]) -> Reference:
        return seen_as(films, pixels, logits, fitted, rows)

    whole = of(validation)
    for _ in range(draws):
        first, second = (validation[half] for half in halves(patients[validation], rng))
        number = min(len(first), len(second), len(test))
        reference, shuffled = of(first), rng.permutation(validation)
        pairs = {
            "validation by patient": (reference, of(rng.choice(second, number, replace=False))),
            "test": (whole, of(rng.choice(test, number, replace=False))),
            "validation by film": (of(shuffled[:number]), of(shuffled[-number:])),
        }
        for name, (known, seen) in pairs.items():
            found[name].append(compare(known.histograms, seen.histograms, known.design_effects))
    view = films.table["view"].to_numpy(dtype=str)
    shares = {"validation": validation, "test": test}
    return {
        "run": run.name,
        "draws": draws,
        "films": number,
        "validation_films": len(validation),
        "design_effects": {name: round(effect, 1) for name, effect in whole.design_effects.items()},
        "ap_share": {name: round(float((view[rows] == "AP").mean()), 3) for name, rows in shares.items()},
        **{name: summed_up(changes) for name, changes in found.items()},
    }


def summed_up(draws: Sequence[dict[str, Change]]) -> dict[str, Any]:
    moved = Counter(name for changes in draws for name, change in changes.items() if change.moved)

    def among(name: str, measure: str) -> dict[str, float] | None:
        known = [value for changes in draws if (value := getattr(changes[name], measure)) is not None]
        if not known:
            return None
        return {word: round(float(of(known)), 3) for word, of in (("low", min), ("median", np.median), ("high", max))}

    return {
        "draws_in_which_something_moved": sum(any(one.moved for one in changes.values()) for changes in draws),
        "moved": dict(moved.most_common()),
        "psi": {name: among(name, "psi") for name in draws[0]},
        "ks": {name: among(name, "ks") for name in draws[0]},
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
