"""The cascade in process on one GPU: the limit, and the two handlers from a film's bytes to a report's, JPEG and PNG.

    benchmarks/gpu.sh                             # unattended, with the training benchmark
    python -m benchmarks.gpu --quick --out FILE   # small models and few films, on a CPU too

No server, no Java and no network: ``ours`` hands both handlers the batches that TorchServe would. Half of the films are
routed. Decoding is on the CPU: ``cores_for_decoding`` says how many of its cores keep the GPU busy. Prints and writes
one JSON document.
"""

import argparse
import datetime
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from benchmarks.films import as_jpeg, decoded, film_paths
from benchmarks.limit import served_dtype, vits
from benchmarks.machine import own_precision, processor
from benchmarks.pairs import IMAGE_SIZE, SIZES, Pair, make_pair
from benchmarks.training import PEAK_BF16, matrix_products
from handlers.binary_handler import BinaryHandler
from handlers.calibration import UNCALIBRATED, calibrated
from handlers.decoding.batch import Decoding
from handlers.decoding.image import read_film, to_pixels
from handlers.disease_handler import DiseaseHandler
from handlers.findings import FINDINGS
from training.fit.config import ModelConfig
from workflows.files.atomic import write_text

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
FOLDERS = (ROOT / "shared" / "nih-1024", ROOT.parent / "shared" / "nih-1024", ROOT / "data" / "sample")
BATCHES = (1, 16, 64)
LIMIT_BATCHES = (*BATCHES, 128, 256)
QUICK_BATCHES = (1, 4)
ROUNDS = 3
HANDLERS: dict[str, Any] = {"binary": BinaryHandler, "disease": DiseaseHandler}

Step = Callable[[int, int], None]
"""Reads a batch: the first film's number, and how many there are."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small models, few films, short rounds")
    parser.add_argument("--out", type=Path, help="the JSON document (results/serving-gpu.json, quick: results/quick/)")
    chosen = parser.parse_args()
    out = chosen.out or RESULTS / ("quick" if chosen.quick else "") / "serving-gpu.json"
    out.parent.mkdir(exist_ok=True)
    seconds, number, name = (0.5, 8, "small") if chosen.quick else (3.0, 64, "base")
    films, origin = png_films(number)
    with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        pixels = decoded(films, IMAGE_SIZE)
        pair = make_pair(name, Path(folder) / name, pixels, own_precision())
        order = pair.alternating()
        pngs = [films[at] for at in order]
        forms = {"png": pngs, "jpeg": [as_jpeg(film) for film in pngs]}
        measured = measure(pair, forms, pixels[order], seconds, chosen.quick)
    document = {"quick": chosen.quick, "date": datetime.date.today().isoformat(), "pair": name, "films": origin}
    document |= machine() | measured
    write_text(out, json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


def png_films(number: int) -> tuple[list[bytes], str]:
    """Full-size films as PNG, and where they come from; drawn where no folder with films is at hand."""
    for folder in FOLDERS:
        if folder.exists():
            return [path.read_bytes() for path in film_paths(folder, number)], folder.name
    return [_drawn(seed) for seed in range(number)], "drawn, 1024 px"


def _drawn(seed: int) -> bytes:
    """Smooth shapes with a film's grain: a file of it has about a radiograph's size."""
    chance = np.random.default_rng(seed)
    shapes = Image.fromarray(chance.integers(20, 236, (12, 12), np.uint8)).resize(
        (1024, 1024), Image.Resampling.BICUBIC
    )
    grain = chance.normal(0.0, 3.0, (1024, 1024))
    buffer = BytesIO()
    Image.fromarray(np.clip(np.asarray(shapes) + grain, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def machine() -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "precision": own_precision(),
    }


def measure(pair: Pair, forms: dict[str, list[bytes]], pixels: Any, seconds: float, quick: bool) -> dict[str, Any]:
    """Films per second of all arms, in turn, and what decoding takes of ours.

    The limit is the bare networks in the precision that is served, on pixels that are decoded and in the host's memory.
    """
    batches, limit_batches, rounds = (QUICK_BATCHES, QUICK_BATCHES, 1) if quick else (BATCHES, LIMIT_BATCHES, ROUNDS)
    share = pair.at_share(50)
    nodes = {stage: node(stage, share) for stage in HANDLERS}
    binary, disease, threshold = vits(share, served_dtype(share))

    def limit(at: int, batch: int) -> None:
        part = np.take(pixels, range(at, at + batch), axis=0, mode="wrap")
        if len(routed := part[calibrated(binary.logits(part), [UNCALIBRATED])[:, 0] >= threshold]):
            calibrated(disease.logits(routed), [UNCALIBRATED] * len(FINDINGS))

    def ours(films: list[bytes]) -> Step:
        def step(at: int, batch: int) -> None:
            bodies = [{"body": films[number % len(films)]} for number in range(at, at + batch)]
            for handler, context in nodes.values():
                bodies = [{"body": answer} for answer in handler.handle(bodies, context)]

        return step

    arms: dict[str, tuple[Step, int]] = {
        **{f"limit, batch {batch}": (limit, batch) for batch in limit_batches},
        **{f"ours, {form}, batch {batch}": (ours(films), batch) for form, films in forms.items() for batch in batches},
    }
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, (step, batch) in arms.items():
            rates[name].append(films_per_second(step, batch, seconds))
    middle = {name: statistics.median(of) for name, of in rates.items()}
    best = max(rate for name, rate in middle.items() if name.startswith("limit"))
    decode = {form: decode_seconds(films) for form, films in forms.items()}
    return {
        "films_per_second": {name: round(rate, 2) for name, rate in middle.items()},
        "rounds": {name: [round(rate, 2) for rate in of] for name, of in rates.items()},
        "decode_ms_per_film_on_one_core": {form: round(1000.0 * one, 2) for form, one in decode.items()},
        "cores_for_decoding": {form: round(one * best, 1) for form, one in decode.items()},
        "decode_share": {
            f"{form}, batch {batch}": round(
                batch_decode_seconds(films, batch) * middle[f"ours, {form}, batch {batch}"] / batch, 3
            )
            for form, films in forms.items()
            for batch in batches
        },
        "ratios": {
            f"ours_over_limit, {form}, batch {batch}": round(
                middle[f"ours, {form}, batch {batch}"] / middle[f"limit, batch {batch}"], 3
            )
            for form in forms
            for batch in batches
        }
        | share_of_peak(pair.name, best),
    }


def node(stage: str, share: Path) -> tuple[Any, Any]:
    """A handler as TorchServe starts it, and the context that it is called with."""
    properties = {"model_dir": str(share / stage), "gpu_id": 0}
    context = SimpleNamespace(system_properties=properties, metrics=SimpleNamespace(add_counter=lambda *_: None))
    handler = HANDLERS[stage]()
    handler.initialize(context)
    return handler, context


def share_of_peak(pair: str, films_per_second: float) -> dict[str, float]:
    """Of the GPU's dense bfloat16, by both stages' matrix products, half of the films routed; nothing on a CPU."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((rate for name, rate in PEAK_BF16.items() if name in device), None)
    products = matrix_products(ModelConfig(sizes=SIZES[pair], image_size=IMAGE_SIZE))
    return {"limit_share_of_bf16_peak": round(2 * 1.5 * products * films_per_second / peak, 3)} if peak else {}


def films_per_second(step: Step, batch: int, seconds: float) -> float:
    step(0, batch)
    synchronise()
    done, start = 0, time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        step(done, batch)
        done += batch
    synchronise()
    return done / (time.perf_counter() - start)


def decode_seconds(films: list[bytes]) -> float:
    """Median over the films."""
    times = []
    for film in films:
        start = time.perf_counter()
        to_pixels(read_film(film), IMAGE_SIZE)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def batch_decode_seconds(films: list[bytes], batch: int) -> float:
    """A batch decoded as the binary node does it, side by side on all cores; median of five."""
    decoding = Decoding(lambda film: to_pixels(read_film(film), IMAGE_SIZE))
    part = [films[number % len(films)] for number in range(batch)]
    times = []
    for _ in range(5):
        start = time.perf_counter()
        decoding.decode(part)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
