"""Refits calibration and thresholds of two archives on a site's own labelled films; the weights stay as they are.

    python -m training.recalibrate --store model_store --data /data/site --out model_store_site

Reads ``binary.mar``, ``disease.mar`` and ``chest_xray.war`` of the store, and every film of a data folder in NIH's
layout, whatever its lists say. Writes the same three archives with new metadata: calibration, thresholds, what was
measured, and a version that ends in ``site.1`` (``1.0.0`` becomes ``1.0.0+site.1``, that one ``1.0.0+site.2``).
A label that the films cannot calibrate keeps what it had, and is named.
"""

import argparse
import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlers.calibration import Platt, calibrated
from handlers.findings import FINDINGS
from handlers.metadata import Metadata
from handlers.reading import FINDING
from training.archive import pack_model, place
from training.data.films import Films, locate, read_table
from training.data.pixels import load_pixels
from training.evaluate import LABELS, STAGES, both_logits, read_sensitivity, targets_of
from training.evaluation.calibration import calibration_errors, cross_fitted, fit_labels
from training.evaluation.evaluation_table import print_recalibration
from training.evaluation.gate import Scored, choose_gate, gate_table
from training.evaluation.thresholds import disease_thresholds
from workflows import command_line
from workflows.active import WORKFLOW
from workflows.files.atomic import scratch_folder
from workflows.files.text_files import DataError

FEWEST_FILMS, FEWEST_PATIENTS = 50, 10
"""Of a site: with fewer, the new calibration would be worse than the old one."""


@dataclass(frozen=True)
class Refit:
    """What a site's films make of the 15 labels.

    Attributes:
        calibration: per label.
        thresholds: per label, of calibrated probabilities.
        record: what the archives say of the site and of the change.
    """

    calibration: dict[str, Platt]
    thresholds: dict[str, float]
    record: dict[str, Any]


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.recalibrate") -> None:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, default=Path("model_store"), help="with the archives (%(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="the site's films, in NIH's layout")
    parser.add_argument("--out", type=Path, required=True, help="where the new archives go")
    parser.add_argument("--sensitivity", type=read_sensitivity, help="stage 1's on these films (by the gate's policy)")
    parser.add_argument("--skip-unreadable", action="store_true", help="go on without films that cannot be read")
    chosen = parser.parse_args(arguments)
    try:
        made = recalibrate(chosen.store, chosen.data, chosen.out, chosen.sensitivity, chosen.skip_unreadable)
    except DataError as fault:
        raise DataError(str(fault).replace("--data.skip_unreadable true", "--skip-unreadable")) from fault
    for path in made:
        print(path)


def recalibrate(
    store: Path, data: Path, out: Path, sensitivity: float | None = None, skip_unreadable: bool = False
) -> list[Path]:
    """Writes the store's three archives anew into ``out``; each appears under its name only when it is whole.

    Args:
        store: holds the three archives.
        data: the site's films.
        out: another folder than ``store``.
        sensitivity: stage 1's on the site's films, in (0, 1]; by ``training.evaluation.gate``'s policy unless given.
        skip_unreadable: leave out films that are missing or cannot be read, instead of refusing.

    Raises:
        DataError: the archives are no pair of a binary and a disease model, or the films are too few or unreadable.
        FileNotFoundError: an archive is missing.
        LabelError: an unknown finding in the site's table.
    """
    if out.resolve() == store.resolve():
        raise DataError(f"--out is {store} itself: name another folder, so that the old archives are not lost")
    names = [f"{name}.mar" for name in STAGES] + [f"{WORKFLOW}.war"]
    missing = [name for name in names if not (store / name).exists()]
    if missing:
        raise FileNotFoundError(f"{store} lacks {', '.join(missing)}: run 'make archive' first, or correct --store")
    with scratch_folder(out / "archives") as scratch:
        models = {stage: _unpack(store / f"{stage}.mar", stage, scratch / "old" / stage) for stage in STAGES}
        if models["binary"].image_size != models["disease"].image_size:
            sizes = " and ".join(f"{model.image_size} px ({stage})" for stage, model in models.items())
            raise DataError(f"{store}: the models see films of {sizes}: these archives are not of one run")
        films, pixels = _site_films(data, models["binary"].image_size, scratch / "cache", skip_unreadable)
        logits = both_logits({stage: scratch / "old" / stage for stage in STAGES}, pixels, np.arange(len(pixels)))
        refit = _refit(films, logits, models, sensitivity)
        made = [pack_model(scratch / "old" / stage, _renew(models[stage], refit), scratch) for stage in STAGES]
        made.append(Path(shutil.copy(store / f"{WORKFLOW}.war", scratch)))
        made = place(made, out)
    print_recalibration(refit.record, {label: one.model_dump() for label, one in refit.calibration.items()})
    return made


def _unpack(archive: Path, stage: str, folder: Path) -> Metadata:
    try:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        metadata = Metadata.read(folder)
    except (zipfile.BadZipFile, FileNotFoundError, ValueError) as fault:
        raise DataError(f"{archive} is no archive of this project's: {fault}") from fault
    labels = [FINDING] if stage == "binary" else list(FINDINGS)
    if metadata.stage != stage or metadata.labels != labels:
        raise DataError(f"{archive} holds the {metadata.stage} model of {metadata.labels}, where {stage}'s belongs")
    return metadata


def _site_films(data: Path, size: int, cache: Path, skip_unreadable: bool) -> tuple[Films, NDArray[np.uint8]]:
    table, diseases = read_table(data)
    films = locate(Films(data, table, diseases), skip_unreadable)
    films, pixels = load_pixels(films, size, cache, skip_unreadable)
    patients = films.table["patient"].nunique()
    if len(pixels) < FEWEST_FILMS or patients < FEWEST_PATIENTS:
        raise DataError(
            f"{data}: {len(pixels)} films of {patients} patients; a calibration needs {FEWEST_FILMS} films of "
            f"{FEWEST_PATIENTS} patients at least"
        )
    return films, pixels


def _refit(films: Films, logits: NDArray[np.float32], models: dict[str, Metadata], sensitivity: float | None) -> Refit:
    """[N, 15] logits of all films -> new calibrations and thresholds, where the films allow them."""
    targets, patients = targets_of(films), films.table["patient"].to_numpy(dtype=str)
    old = [one for stage in STAGES for one in models[stage].maps]
    maps, fitted = fit_labels(targets, logits, old)
    scores = calibrated(logits, maps)
    kept = [label for label, one in zip(LABELS, fitted, strict=True) if not one]
    gate = None if FINDING in kept else _gate(Scored(films.diseases, scores[:, 0], scores[:, 1:]), sensitivity)
    if gate is None and sensitivity is not None:
        raise DataError(f"{films.folder}: no gate of a given sensitivity, as these films cannot calibrate stage 1")
    thresholds = disease_thresholds(films.diseases, scores[:, 1:])
    if gate:
        thresholds[FINDING] = gate["threshold"]
    before = {label: threshold for model in models.values() for label, threshold in model.thresholds.items()}
    thresholds |= {label: before[label] for label in kept}
    after = cross_fitted(targets, logits, patients, old)
    record = {
        "folder": films.folder.resolve().name,
        "synthetic": films.synthetic,
        "films": len(patients),
        "patients": len(np.unique(patients)),
        "prevalence": dict(zip(LABELS, targets.mean(axis=0).tolist(), strict=True)),
        "calibration_error": calibration_errors(targets, calibrated(logits, old), after, LABELS),
        "kept": kept,
        "gate": gate,
    }
    return Refit(dict(zip(LABELS, maps, strict=True)), thresholds, record)


def _gate(films: Scored, sensitivity: float | None) -> dict[str, Any]:
    rows = gate_table(films, wanted=sensitivity)
    served, why = choose_gate(rows, sensitivity)
    return {"sensitivity": served["sensitivity"], "threshold": served["threshold"], "why": why, "table": rows}


def _renew(model: Metadata, refit: Refit) -> Metadata:
    changed = {
        "version": site_version(model.version),
        "calibration": {label: refit.calibration[label] for label in model.labels},
        "thresholds": {label: refit.thresholds[label] for label in model.labels},
        "recalibrated": refit.record,
    }
    return Metadata.model_validate(model.model_copy(update=changed).model_dump())


def site_version(version: str) -> str:
    """``1.0.0`` -> ``1.0.0+site.1`` -> ``1.0.0+site.2``; ``1.0.0+synthetic`` -> ``1.0.0+synthetic.site.1``."""
    public, _, local = version.partition("+")
    earlier = re.fullmatch(r"(?P<rest>.*?)\.?site\.(?P<number>\d+)", local)
    number = int(earlier["number"]) + 1 if earlier else 1
    rest = earlier["rest"] if earlier else local
    return f"{public}+{rest}{'.' if rest else ''}site.{number}"


if __name__ == "__main__":
    command_line.run(main)
