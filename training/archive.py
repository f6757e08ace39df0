"""Packs a run's two models and the workflow for TorchServe.

    python -m training.archive --run runs/demo --store model_store

Writes ``binary.mar``, ``disease.mar`` and ``chest_xray.war``, and ``sha256sums`` of the three, without which
``workflows.register`` serves none of them. A .mar holds the weights (safetensors), the whole
``handlers/`` package and ``metadata.json``; nothing outside it is needed to run it, the libraries apart.
"""

import argparse
import json
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import yaml

import handlers
from handlers.bfloat16_rule import Wanted
from handlers.findings import STAGE_LABELS
from handlers.metadata import METADATA_FILE, Metadata
from handlers.networks.network import encoder_sha256
from handlers.networks.vit import PREPROCESSOR_FILE
from handlers.quality import QUALITY_FILE
from training.evaluation.conformal import ERROR, ERRORS
from training.evaluation.metrics import FEW
from training.evaluation.model_card import write_cards
from training.evaluation.reference import of_stage
from workflows import command_line
from workflows.active import WORKFLOW
from workflows.archivers import run_archiver
from workflows.files.atomic import scratch_folder
from workflows.files.text_files import DataError
from workflows.sums import place

HANDLERS = Path(handlers.__path__[0])
WORKFLOWS = HANDLERS.parent / "workflows"
LIBRARIES = (
    "torch",
    "torchvision",
    "transformers",
    "timm",
    "accelerate",
    "safetensors",
    "numpy",
    "pillow",
    "simplejpeg",
    "pydicom",
    "python-gdcm",
    "pylibjpeg-openjpeg",
)
INTENDED_USE = (
    "Research on adult frontal chest radiographs. Not a medical device: not for diagnosis, triage or any decision "
    "about a patient."
)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.archive") -> None:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of an evaluated run")
    parser.add_argument("--store", type=Path, default=Path("model_store"), help="where the archives go (%(default)s)")
    parser.add_argument("--version", default="1.0.0", help="of the two models (%(default)s)")
    parser.add_argument(
        "--precision",
        choices=get_args(Wanted),
        default="auto",
        help="when served (%(default)s): bfloat16 where the machine is faster in it and the evaluation allows it",
    )
    parser.add_argument(
        "--error",
        type=float,
        choices=ERRORS,
        default=ERROR,
        help="share of films with a finding that may be called absent, and of those without it, present (%(default)s)",
    )
    chosen = parser.parse_args(arguments)
    for path in archive(chosen.run, chosen.store, chosen.version, chosen.precision, chosen.error):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def archive(run: Path, store: Path, version: str, precision: Wanted = "auto", error: float = ERROR) -> list[Path]:
    """Writes the three archives and the model card; all of them appear in the store, or none.

    Args:
        run: an evaluated one.
        store: where the archives go.
        version: of both models.
        precision: when served.
        error: one of ``training.evaluation.conformal.ERRORS``, of the calls.

    Raises:
        FileNotFoundError: the run was not trained or not evaluated.
        NotWritten: the disk is full; the store is as it was.
    """
    evaluation = json.loads((run / "evaluation.json").read_text())
    encoders = {encoder_sha256(run / stage / "checkpoint") for stage in STAGE_LABELS}
    shared = encoders.pop() if len(encoders) == 1 else None
    with scratch_folder(store / "archives") as scratch:
        made = [
            pack_model(
                run / stage / "checkpoint",
                metadata_of(run, stage, evaluation, version, precision, shared, error),
                scratch,
                run / QUALITY_FILE if stage == "binary" and evaluation["quality"] else None,
            )
            for stage in STAGE_LABELS
        ]
        run_archiver(
            scratch,
            "torch-workflow-archiver",
            *("--workflow-name", WORKFLOW, "--spec-file", WORKFLOWS / f"{WORKFLOW}.yaml"),
            *("--handler", WORKFLOWS / "no_functions.py", "--export-path", scratch),
        )
        return place([*made, scratch / f"{WORKFLOW}.war", *write_cards(scratch)], store)


def metadata_of(
    run: Path,
    stage: str,
    evaluation: dict[str, Any],
    version_: str,
    precision: Wanted = "auto",
    shared_encoder: str | None = None,
    error: float = ERROR,
) -> Metadata:
    """What the stage's archive will say of itself."""
    checkpoint = run / stage / "checkpoint"
    labels = list(STAGE_LABELS[stage])
    preprocessor = json.loads((checkpoint / PREPROCESSOR_FILE).read_text())
    test = evaluation["test"]
    measured = {"binary": test["binary"]} if stage == "binary" else {k: v for k, v in test.items() if k != "binary"}
    errors, intervals = evaluation["calibration_error"].items(), evaluation["intervals"].items()
    # Figures of both stages go with the second.
    parts = ("gate", "validation", "quality") if stage == "binary" else ("routed", "subgroups")
    if lacking := [name for name in ("kind", "certainty", *FEW, *parts) if name not in evaluation]:
        raise DataError(
            f"{run}/evaluation.json is of an older form, without {', '.join(lacking)}: "
            f"python -m training.evaluate --run {run}"
        )
    calls = next(row for row in evaluation["certainty"]["table"] if row["error"] == error)
    return Metadata.model_validate(
        {
            "stage": stage,
            "version": f"{version_}+synthetic" if evaluation["data"]["synthetic"] else version_,
            "labels": labels,
            "image_size": preprocessor["size"]["height"],
            "mean": preprocessor["image_mean"],
            "std": preprocessor["image_std"],
            "precision": precision,
            "bfloat16": evaluation.get("bfloat16"),
            "kind": evaluation["kind"],
            "shared_encoder": shared_encoder,
            "calibration": {label: evaluation["calibration"][label] for label in labels},
            "thresholds": {label: evaluation["thresholds"][label] for label in labels},
            "certainty": {
                "error": error,
                "bounds": {label: of for label, of in calls["bounds"].items() if label in labels},
                "standing": {label: of for label, of in evaluation["certainty"]["standing"].items() if label in labels},
            },
            "metrics": {
                "test": measured,
                "coverage": {label: of for label, of in calls["coverage"].items() if label in labels},
                "calibration_error": {split: {label: of[label] for label in labels} for split, of in errors},
                **{few: [label for label in evaluation[few] if label in labels] for few in FEW},
                "intervals": {name: of for name, of in intervals if (name == "binary") == (stage == "binary")},
                **{name: evaluation[name] for name in parts},
            },
            "data": evaluation["data"],
            "training": yaml.safe_load((checkpoint / "training.yaml").read_text()),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
            "intended_use": INTENDED_USE,
            # An evaluation of before has neither.
            "reference": of_stage(evaluation.get("reference", {}), stage),
            "design_effects": of_stage(evaluation.get("design_effects", {}), stage),
        }
    )


def pack_model(folder: Path, metadata: Metadata, scratch: Path, checks: Path | None = None) -> Path:
    """Writes ``STAGE.mar`` into ``scratch``: the folder's weights, this project's handlers, the metadata.

    Args:
        folder: of a checkpoint, or of an unpacked archive.
        metadata: the new one.
        scratch: an empty folder.
        checks: the file of ``handlers.quality``, where there is one.
    """
    stage, staged = metadata.stage, scratch / metadata.stage
    # The archiver copies this folder's content to the archive's root: imports read the same inside and outside.
    shutil.copytree(HANDLERS, staged / "handlers", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("config.json", PREPROCESSOR_FILE):
        shutil.copy(folder / name, staged / name)
    if checks is not None:
        shutil.copy(checks, staged / QUALITY_FILE)
    (staged / METADATA_FILE).write_text(metadata.model_dump_json(indent=2))
    run_archiver(
        scratch,
        "torch-model-archiver",
        *("--model-name", stage, "--version", metadata.version),
        *("--serialized-file", folder / "model.safetensors"),
        *("--handler", HANDLERS / f"{stage}_handler.py"),
        *("--extra-files", staged, "--export-path", scratch, "--archive-format", "zip-store"),
    )
    return scratch / f"{stage}.mar"


if __name__ == "__main__":
    command_line.run(main)
