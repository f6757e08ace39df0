"""How long the bootstrap over patients takes at the size of NIH's official test list.

    python -m benchmarks.bootstrap

Prints one JSON document: films, patients, labels, resamples, seconds (AUC and AUPRC of every label).
"""

import json
import time

import numpy as np

from training.evaluation.bootstrap import intervals

FILMS, PATIENTS, LABELS, RESAMPLES = 25_596, 2_797, 15, 1_000
"""The official test list's, with stage 1 beside the 14 findings."""


def main() -> None:
    rng = np.random.default_rng(0)
    # From NIH's rarest finding (0.3%) to stage 1 (61.5%).
    prevalence = np.geomspace(0.003, 0.615, LABELS)
    targets = (rng.random((FILMS, LABELS)) < prevalence).astype(np.int8)
    scores = rng.random((FILMS, LABELS), np.float32) + 0.3 * targets
    patients = np.concatenate([np.arange(PATIENTS), rng.integers(PATIENTS, size=FILMS - PATIENTS)])
    start = time.perf_counter()
    result = intervals(targets, scores, patients, [f"label {label}" for label in range(LABELS)], RESAMPLES)
    seconds = time.perf_counter() - start
    sizes = {"films": result.films, "patients": result.patients, "labels": LABELS, "resamples": result.resamples}
    print(json.dumps({**sizes, "seconds": round(seconds, 2)}))


if __name__ == "__main__":
    main()
