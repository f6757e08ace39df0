"""The model card of a store's two archives, in the convention of Hugging Face's hub.

    python -m training.evaluation.model_card --store model_store --out model_store/MODEL_CARD.md

Everything in it is from the two .mar files themselves: no run folder, no films, no network. The sections are those of
the hub's own template (Mitchell et al., *Model cards for model reporting*, FAT* 2019), the front matter its metadata.
"""

import argparse
import json
import math
import re
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markdown_it import MarkdownIt
from markupsafe import Markup

from handlers.findings import FINDINGS, LABELS
from training.evaluation.conformal import fewest
from training.evaluation.evaluation_table import bfloat16_words
from training.evaluation.formats import interval, number, percent
from training.evaluation.metrics import FEW, MIN_COUNT, class_mean
from training.evaluation.thresholds import UNKNOWN
from workflows import command_line
from workflows.active import WORKFLOW
from workflows.command_line import Fault
from workflows.files.atomic import write_text
from workflows.store import CARD, archives_of
from workflows.sums import sha256_of

NAME = "CXR Cascade"
HERE = Path(__file__).parent
WAYS = ("ungated", "gated", "soft")
TAGS = ("chest-x-ray", "radiology", "medical", "vit", "torchserve")

HEADS = {
    "cls": "the class token",
    "mean": "the mean of the patches' tokens",
    "both": "the class token and the mean of the patches' tokens",
    None: "the class token",  # archives of before there was a choice
}

MARKUP = re.compile(r"[\\`*\[\]<>|#&~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What may mean something in Markdown inside a line."""

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""Of a model on the hub; any other backbone is a folder of somebody's disk."""


TABLES = {
    "<table>": '<div class="scroll" role="group" aria-label="table, may scroll sideways" tabindex="0"><table>',
    "</table>": "</table></div>",
    ' style="text-align:right"': ' class="number"',
}
"""What the renderer writes, and what stands for it: a wide table scrolls by itself. No text of the card's can be one of
these, for the renderer escapes ``<`` and ``"``."""


class CardError(Fault):
    """The archives are missing, or do not say what a card needs; the message says what to do."""


@dataclass(frozen=True)
class Archive:
    """One stage's .mar file.

    Attributes:
        file: its name.
        megabytes: its size.
        sha256: of the file, in hexadecimal.
        packed: the day on which it was packed, ISO 8601.
        parameters: how many numbers its weights are.
        architecture: ``config.json`` of transformers.
        metadata: ``metadata.json``, ``handlers.metadata.Metadata`` as plain JSON: that class would bring PyTorch along.
    """

    file: str
    megabytes: float
    sha256: str
    packed: str
    parameters: int
    architecture: dict[str, Any]
    metadata: dict[str, Any]


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.evaluation.model_card") -> None:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, default=Path("model_store"), help="with the archives (%(default)s)")
    parser.add_argument("--out", type=Path, help="file to write; printed unless told")
    chosen = parser.parse_args(arguments)
    card = model_card(chosen.store)
    if chosen.out is None:
        print(card)
    else:
        write_text(chosen.out, card)
        print(chosen.out)


def write_cards(store: Path) -> list[Path]:
    """Writes the card of a store's pair into that store, as Markdown and as a page. Raises CardError."""
    markdown, page = store / "MODEL_CARD.md", store / CARD
    write_text(markdown, model_card(store))
    write_text(page, model_card_html(store))
    return [markdown, page]


def model_card(store: Path) -> str:
    """Markdown with YAML front matter.

    Raises:
        CardError: an archive is missing, is none of this project's, or is of an older form.
    """
    front_matter, body = _write(store)
    return f"---\n{front_matter}\n---\n\n{body}"


def model_card_html(store: Path) -> str:
    """The card as one page that loads nothing else. Raises CardError as ``model_card`` does."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(_write(store)[1])
    for written, shown in TABLES.items():
        body = body.replace(written, shown)
    page = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    return page.get_template("model_card.html.j2").render(name=NAME, body=Markup(body))


def read_archive(path: Path) -> Archive:
    """Raises CardError where the file is missing or is no archive of this project's."""
    try:
        with zipfile.ZipFile(path) as packed:
            manifest = json.loads(packed.read("MAR-INF/MANIFEST.json"))
            return Archive(
                file=path.name,
                megabytes=path.stat().st_size / 1e6,
                sha256=sha256_of(path),
                packed=datetime.strptime(manifest["createdOn"], "%d/%m/%Y %H:%M:%S").date().isoformat(),
                parameters=_count_parameters(packed, manifest["model"]["serializedFile"]),
                architecture=json.loads(packed.read("config.json")),
                metadata=json.loads(packed.read("metadata.json")),
            )
    except FileNotFoundError:
        raise CardError(f"{path} is not there: run 'make archive' first, or correct --store") from None
    except (zipfile.BadZipFile, KeyError, ValueError, struct.error) as fault:
        raise CardError(f"{path} is no archive of this project's ({fault}): run 'make archive' again") from fault


def _write(store: Path) -> tuple[str, str]:
    """Front matter and body."""
    binary, disease = (read_archive(store / name) for name in archives_of(WORKFLOW)[:2])
    try:
        return _front_matter(binary, disease).to_yaml(), _body(binary, disease)
    except (KeyError, UndefinedError) as fault:
        raise CardError(
            f"{store / binary.file} and {disease.file} say too little for a card ({fault}): they are of an older form. "
            "Run 'make archive' again"
        ) from fault


def _count_parameters(packed: zipfile.ZipFile, file: str) -> int:
    """From the header alone: its length in 8 bytes, little-endian, then JSON (the safetensors format)."""
    with packed.open(file) as weights:
        (length,) = struct.unpack("<Q", weights.read(8))
        header = json.loads(weights.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _front_matter(binary: Archive, disease: Archive) -> ModelCardData:
    data = disease.metadata["data"]
    models = [one.metadata["training"]["model"] for one in (binary, disease)]
    backbones = {model["backbone"] for model in models if not model["sizes"] and HUB_NAME.fullmatch(model["backbone"])}
    return ModelCardData(
        model_name=NAME,
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=[*TAGS, *(["synthetic"] if data["synthetic"] else [])],
        datasets=[data["folder"]],
        base_model=sorted(backbones) or None,
        metrics=["roc_auc", "recall", "specificity"],
        eval_results=_results(binary.metadata["metrics"], disease.metadata["metrics"], data),
    )


def _results(binary: dict[str, Any], disease: dict[str, Any], data: dict[str, Any]) -> list[EvalResult]:
    """What the hub shows beside a card; a figure that could not be had is left out."""
    stage_1, stage_2 = binary["test"]["binary"], disease["test"]
    figures = [
        ("roc_auc", "AUC of any finding (stage 1)", stage_1["auc"]),
        ("recall", "Sensitivity to any finding (stage 1, as served)", stage_1["sensitivity"]),
        ("specificity", "Specificity to any finding (stage 1, as served)", stage_1["specificity"]),
        *(("roc_auc", f"Mean AUC of the 14 findings, {way}", stage_2["mean_auc"][way]) for way in WAYS),
        *(("roc_auc", f"AUC of {_words(name)}, gated", stage_2["diseases"][name]["gated"]) for name in FINDINGS),
    ]
    return [
        EvalResult(
            task_type="image-classification",
            task_name="Findings on frontal chest radiographs",
            dataset_type=data["folder"],
            dataset_name=f"{data['folder']} (synthetic films)" if data["synthetic"] else data["folder"],
            dataset_split="test",
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for kind, name, value in figures
        if value is not None
    ]


def _body(binary: Archive, disease: Archive) -> str:
    stages, site = (binary.metadata, disease.metadata), binary.metadata["recalibrated"]
    still = site["kept"] if site else LABELS  # what a site's films have moved is no longer as it was evaluated
    few = {few: [name for stage in stages for name in stage["metrics"][few] if name in still] for few in FEW}
    template = _templates().get_template("model_card.md.j2")
    archives = {"binary": binary, "disease": disease}
    constants = {"min_count": MIN_COUNT, "unknown": UNKNOWN, "findings": FINDINGS, "ways": WAYS}
    return template.render(name=NAME, archives=archives, **few, fewest=fewest, **constants)


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_escape,
    )
    shown = {"area": interval, "share": number, "percent": percent, "count": "{:,}".format, "words": _words}
    templates.filters.update(shown, start=_start, precision=_precision, class_mean=class_mean)
    templates.filters.update(patch=_patch, sizes=_sizes, head=_head, served_in=_served_in)
    return templates


def _escape(value: Any) -> Any:
    """Text from an archive stays text, whatever is in it."""
    return MARKUP.sub(r"\\\g<0>", " ".join(value.split())) if isinstance(value, str) else value


def _words(name: str) -> str:
    return name.replace("_", " ")


def _patch(architecture: dict[str, Any]) -> str:
    """Of ``config.json``; timm's has the sizes that were changed alone, and the architecture's name for the others."""
    sizes = architecture.get("vision_config") or architecture.get("model_args") or architecture
    return f"{sizes['patch_size']} px" if "patch_size" in sizes else architecture["architecture"]


def _sizes(architecture: dict[str, Any]) -> str:
    """Likewise."""
    sizes = architecture.get("vision_config", architecture)
    keys = ("num_hidden_layers", "hidden_size", "num_attention_heads")
    return ", ".join(str(sizes[key]) for key in keys) if keys[0] in sizes else architecture["architecture"]


def _head(architecture: dict[str, Any]) -> str:
    return HEADS[architecture.get("pool")]


def _start(training: dict[str, Any]) -> str:
    """What the weights were before the first epoch, of a resolved training configuration; of a path its last name."""
    model = training["model"]
    start = training["start"] or ("random weights" if model["sizes"] else model["backbone"])
    return Path(start).name if Path(start).is_absolute() else start


def _precision(name: str) -> str:
    """Of ``accelerate``: ``no``, ``bf16`` or ``fp16``."""
    return "float32" if name == "no" else f"{name}, mixed"


def _served_in(metadata: dict[str, Any]) -> str:
    """What the archive is packed with; of ``auto``, what it means."""
    wanted, effect = metadata["precision"], metadata.get("bfloat16")
    if wanted != "auto":
        return str(wanted)
    if effect is None:
        return "float32, for nobody has measured what bfloat16 changes"
    return f"auto. {bfloat16_words(effect)}"


if __name__ == "__main__":
    command_line.run(main)
