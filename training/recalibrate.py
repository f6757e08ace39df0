"""Refits calibration and thresholds of two archives on a site's own labelled films; the weights stay as they are.

    python -m training.recalibrate --store model_store --data /data/site --out model_store_site
    python -m training.recalibrate --store model_store --feedback feedback.csv --out model_store_site

Reads ``binary.mar``, ``disease.mar`` and ``chest_xray.war`` of the store, and every film of a data folder in any layout
of training/DATA.md, whatever its lists say; or no film, but what readers said of films that this store's models read
(``python -m workflows.feedback export``), with the probabilities that these had. Writes the same three archives with
new metadata: calibration, thresholds, calls and percentiles, what was measured, and a version that ends in ``site.1``
(``1.0.0`` becomes ``1.0.0+site.1``, that one ``1.0.0+site.2``).
A label that too few films show, or do not show, keeps its calibration and threshold, and is named.
"""

import argparse
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from handlers.bfloat16_rule import Bfloat16Effect
from handlers.cascade import Cascade
from handlers.certainty import Certainty
from handlers.findings import LABELS, STAGE_LABELS
from handlers.metadata import Metadata
from handlers.quality import QUALITY_FILE
from training.archive import pack_model
from training.data.films import Films, locate, read_table
from training.data.pixels import load_pixels
from training.evaluate import both_logits, labelled, read_sensitivity
from training.evaluation.bfloat16_effect import bfloat16_effect
from training.evaluation.conformal import fit_certainty
from training.evaluation.evaluation_table import print_recalibration
from training.evaluation.feedback import read_feedback
from training.evaluation.fit_cascade import Fitted, Labelled, fit_cascade, served_errors
from training.evaluation.model_card import write_cards
from training.evaluation.reference import Reference, of_stage, recalibrated, reference_of
from workflows import command_line
from workflows.active import WORKFLOW
from workflows.files.atomic import scratch_folder
from workflows.files.text_files import DataError
from workflows.store import archives_of, pair_id
from workflows.sums import place, sha256_of

MIN_FILMS, MIN_PATIENTS = 50, 10
"""Of a site: with fewer, the new calibration would be worse than the old one."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.recalibrate") -> None:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, default=Path("model_store"), help="with the archives (%(default)s)")
    films = parser.add_mutually_exclusive_group(required=True)
    films.add_argument("--data", type=Path, help="the site's films, in a layout of training/DATA.md")
    films.add_argument("--feedback", type=Path, help="a table of 'python -m workflows.feedback export', without films")
    parser.add_argument("--out", type=Path, required=True, help="where the new archives go")
    parser.add_argument("--sensitivity", type=read_sensitivity, help="stage 1's on these films (by the gate's policy)")
    parser.add_argument("--skip-unreadable", action="store_true", help="go on without films that cannot be read")
    chosen = parser.parse_args(arguments)
    if chosen.feedback:
        for path in recalibrate_by_feedback(chosen.store, chosen.feedback, chosen.out, chosen.sensitivity):
            print(path)
        return
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
    with _unpacked(store, out) as (folders, models, scratch):
        films, pixels = _site_films(data, models["binary"].image_size, scratch / "cache", skip_unreadable)
        rows = np.arange(len(pixels))
        site, old = labelled(films, rows, both_logits(folders, pixels, rows)), _old_cascade(models)
        refit = _refit(data, site, old, sensitivity)
        record = _record(films.folder.resolve().name, films.synthetic, site, old, refit)
        paths: list[Path] = films.table["path"].tolist()
        known, old_films = reference_of(paths, pixels, refit.score(site), site.patients), models["binary"]
        reference = Reference(old_films.reference | known.histograms, old_films.design_effects | known.design_effects)
        effect = bfloat16_effect(site, both_logits(folders, pixels, rows, torch.bfloat16), refit.cascade)
        made = _pack(folders, models, refit, site, record, reference, effect, scratch, store, out)
    print_recalibration(record, refit.cascade.model_dump()["calibration"])
    return made


def recalibrate_by_feedback(store: Path, feedback: Path, out: Path, sensitivity: float | None = None) -> list[Path]:
    """The same by what readers said of films that were served; the films are not needed, and not looked at.

    The gate is chosen among films of which stage 2 has read those that the old gate let through. The histograms that
    served films are compared with stay those of before, with stage 1's probabilities moved to the new calibration;
    those of the 14 go where the gate moved, for they were of other films.

    Args:
        store: the one that was served.
        feedback: a table of ``python -m workflows.feedback export``.
        out: another folder than ``store``.
        sensitivity: stage 1's on these films, in (0, 1]; by ``training.evaluation.gate``'s policy unless given.

    Raises:
        DataError: as ``recalibrate``; the table is none, or has too few films of the store's models.
        FileNotFoundError: an archive, or the table, is missing.
    """
    with _unpacked(store, out) as (folders, models, scratch):
        # What the maps of a joint run's stage 2 are of is what its probabilities lead back to.
        old = _old_cascade(models).model_copy(update={"kind": "marginal"})
        pair = pair_id({name: sha256_of(store / name) for name in archives_of(WORKFLOW)})
        read = read_feedback(feedback, pair, old)
        refit = _refit(feedback, read, old, sensitivity)
        record = _record(feedback.name, False, read, old, refit)
        kept = [models["binary"]] if refit.gate else list(models.values())
        reference = Reference(
            {name: films for model in kept for name, films in model.reference.items()},
            {name: effect for model in kept for name, effect in model.design_effects.items()},
        )
        for name in reference.histograms.keys() & set(LABELS):
            maps = old.calibration[name], refit.cascade.calibration[name]
            reference.histograms[name] = recalibrated(reference.histograms[name], *maps)
        # What bfloat16 changes at the new thresholds is not known without the films: float32, unless told.
        made = _pack(folders, models, refit, read, record, reference, None, scratch, store, out)
    print_recalibration(record, refit.cascade.model_dump()["calibration"])
    return made


@contextmanager
def _unpacked(store: Path, out: Path) -> Iterator[tuple[dict[str, Path], dict[str, Metadata], Path]]:
    """Both stages' unpacked folders and metadata, and a scratch folder beside ``out``'s archives."""
    if out.resolve() == store.resolve():
        raise DataError(f"--out is {store} itself: name another folder, so that the old archives are not lost")
    names = archives_of(WORKFLOW)
    missing = [name for name in names if not (store / name).exists()]
    if missing:
        raise FileNotFoundError(f"{store} lacks {', '.join(missing)}: run 'make archive' first, or correct --store")
    if held := [name for name in names if (out / name).exists()]:
        raise DataError(f"{out} holds {', '.join(held)} already: name another folder with --out, or empty that one")
    with scratch_folder(out / "archives") as scratch:
        folders = {stage: scratch / "old" / stage for stage in STAGE_LABELS}
        models = {stage: _unpack(store / f"{stage}.mar", stage, folder) for stage, folder in folders.items()}
        if models["binary"].image_size != models["disease"].image_size:
            sizes = " and ".join(f"{model.image_size} px ({stage})" for stage, model in models.items())
            raise DataError(f"{store}: the models see films of {sizes}: these archives are not of one run")
        yield folders, models, scratch


def _refit(source: Path, films: Labelled, old: Cascade, sensitivity: float | None) -> Fitted:
    try:
        return fit_cascade(films, old, sensitivity)
    except DataError as fault:
        raise DataError(f"{source}: {fault}") from fault


def _pack(
    folders: dict[str, Path],
    models: dict[str, Metadata],
    refit: Fitted,
    films: Labelled,
    record: dict[str, Any],
    reference: Reference,
    effect: Bfloat16Effect | None,
    scratch: Path,
    store: Path,
    out: Path,
) -> list[Path]:
    old = models["binary"].certainty
    sure = fit_certainty(refit.score(films), films.patients, old.error) if old else None
    renewed = [_renew(model, refit.cascade, sure, record, reference, effect) for model in models.values()]
    made = []
    for model in renewed:
        checks = folders[model.stage] / QUALITY_FILE
        made.append(pack_model(folders[model.stage], model, scratch, checks if checks.exists() else None))
    made.append(Path(shutil.copy(store / f"{WORKFLOW}.war", scratch)))
    return place([*made, *write_cards(scratch)], out)


def _unpack(archive: Path, stage: str, folder: Path) -> Metadata:
    try:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        metadata = Metadata.read(folder)
    except (zipfile.BadZipFile, FileNotFoundError, ValueError) as fault:
        raise DataError(f"{archive} is no archive of this project's: {fault}") from fault
    if metadata.stage != stage or metadata.labels != list(STAGE_LABELS[stage]):
        raise DataError(f"{archive} holds the {metadata.stage} model of {metadata.labels}, where {stage}'s belongs")
    return metadata


def _old_cascade(models: dict[str, Metadata]) -> Cascade:
    """Both archives' parts as one; a label that never had a calibration is given the identity, so as to keep it."""
    maps = [one for model in models.values() for one in model.cascade.maps(model.labels)]
    thresholds = models["binary"].thresholds | models["disease"].thresholds
    return Cascade(kind=models["disease"].kind, calibration=dict(zip(LABELS, maps, strict=True)), thresholds=thresholds)


def _site_films(data: Path, size: int, cache: Path, skip_unreadable: bool) -> tuple[Films, NDArray[np.uint8]]:
    films = locate(read_table(data), skip_unreadable)
    films, pixels = load_pixels(films, size, cache, skip_unreadable)
    patients = films.table["patient"].nunique()
    if len(pixels) < MIN_FILMS or patients < MIN_PATIENTS:
        raise DataError(
            f"{data}: {len(pixels)} films of {patients} patients; a calibration needs {MIN_FILMS} films of "
            f"{MIN_PATIENTS} patients at least"
        )
    return films, pixels


def _record(source: str, synthetic: bool, site: Labelled, old: Cascade, refit: Fitted) -> dict[str, Any]:
    """What the archives say of the site and of the change."""
    return {
        "folder": source,
        "synthetic": synthetic,
        "films": len(site.patients),
        "patients": len(np.unique(site.patients)),
        "routed": int(refit.score(site).routed.sum()),
        "prevalence": {
            name: float(known.mean()) if len(known := of[of >= 0]) else None
            for name, of in zip(LABELS, site.targets.T, strict=True)
        },
        "calibration_error": served_errors(site, old, refit.cascade, fitted_here=True),
        "kept": refit.labels("nothing"),
        "without_slope": refit.labels("intercept"),
        "gate": refit.gate,
    }


def _renew(
    model: Metadata,
    new: Cascade,
    sure: Certainty | None,
    record: dict[str, Any],
    reference: Reference,
    effect: Bfloat16Effect | None,
) -> Metadata:
    changed = {
        "bfloat16": effect,
        "version": site_version(model.version),
        "calibration": {label: new.calibration[label] for label in model.labels},
        "thresholds": {label: new.thresholds[label] for label in model.labels},
        "certainty": sure and sure.only(model.labels),
        "recalibrated": record,
        "reference": of_stage(reference.histograms, model.stage),
        "design_effects": of_stage(reference.design_effects, model.stage),
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
