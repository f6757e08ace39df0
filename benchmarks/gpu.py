"""The cascade in process on one GPU: the limit, and the handlers' own steps from a JPEG's bytes to a report's bytes.

    benchmarks/gpu.sh                             # unattended, with the training benchmark
    python -m benchmarks.gpu --quick --out FILE   # small models and few films, on a CPU too

No server, no Java and no network: ``ours`` is ``Screening`` and ``Naming`` with the message between them packed and
unpacked, as the two handlers run them. Half of the films are routed. Prints and writes one JSON document.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from benchmarks.films import as_jpeg, decoded, film_paths
from benchmarks.limit import served_dtype, vits
from benchmarks.pairs import IMAGE_SIZE, make_pair
from handlers.calibration import UNCALIBRATED, calibrated
from handlers.decoding.image import read_film, to_pixels
from handlers.findings import FINDINGS
from handlers.message import pack, unpack
from handlers.networks.vit import serving_device
from handlers.reading import Decoding, Naming, Screening
from workflows.files.atomic import write_text

ROOT = Path(__file__).parents[1]
OUT = Path(__file__).parent / "results" / "serving-gpu.json"
FOLDERS = (ROOT / "shared" / "nih-1024", ROOT.parent / "shared" / "nih-1024", ROOT / "data" / "sample")
BATCHES = (1, 16, 64)
LIMIT_BATCHES = (16, 64, 128, 256)
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small models, few films, short rounds")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON document (%(default)s)")
    chosen = parser.parse_args()
    seconds, number, name = (0.5, 8, "small") if chosen.quick else (4.0, 64, "base")
    films, origin = jpeg_films(number)
    with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        pixels = decoded(films, IMAGE_SIZE)
        pair = make_pair(name, Path(folder) / name, pixels)
        order = pair.alternating()
        measured = measure(pair.at_share(50), [films[at] for at in order], pixels[order], seconds, chosen.quick)
    document = {"quick": chosen.quick, "date": datetime.date.today().isoformat(), "pair": name, "films": origin}
    document |= machine() | measured
    write_text(chosen.out, json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


def jpeg_films(number: int) -> tuple[list[bytes], str]:
    """Full-size films as JPEG (quality 90), and where they come from; drawn where no folder with films is at hand."""
    for folder in FOLDERS:
        if folder.exists():
            return [as_jpeg(path.read_bytes()) for path in film_paths(folder, number)], f"{folder.name}, as JPEG"
    return [_drawn(seed) for seed in range(number)], "drawn, 1024 px, as JPEG"


def _drawn(seed: int) -> bytes:
    """Smooth shapes with a film's grain: a JPEG of it has about a radiograph's size."""
    chance = np.random.default_rng(seed)
    shapes = Image.fromarray(chance.integers(20, 236, (12, 12), np.uint8)).resize(
        (1024, 1024), Image.Resampling.BICUBIC
    )
    grain = chance.normal(0.0, 3.0, (1024, 1024))
    buffer = BytesIO()
    Image.fromarray(np.clip(np.asarray(shapes) + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def machine() -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "precision": served_dtype(),
    }


def measure(share: Path, films: list[bytes], pixels: Any, seconds: float, quick: bool) -> dict[str, Any]:
    """Films per second of both arms, in turn, and the part of ours that is decoding.

    The limit runs in the precision that is served, on pixels that are decoded and in the host's memory.
    """
    screening, naming = Screening(share / "binary", serving_device()), Naming(share / "disease", serving_device())
    binary, disease, threshold = vits(share, served_dtype())

    def limit(at: int, batch: int) -> None:
        part = np.take(pixels, range(at, at + batch), axis=0, mode="wrap")
        if len(routed := part[calibrated(binary.logits(part), [UNCALIBRATED])[:, 0] >= threshold]):
            calibrated(disease.logits(routed), [UNCALIBRATED] * len(FINDINGS))

    def ours(at: int, batch: int) -> None:
        part = [films[number % len(films)] for number in range(at, at + batch)]
        messages = [unpack(pack(one)) for one in screening.screen(part)]
        [report.model_dump_json().encode() for report in naming.name(messages)]

    arms: dict[str, tuple[Callable[[int, int], None], int]] = {
        **{f"limit, batch {batch}": (limit, batch) for batch in (LIMIT_BATCHES[:1] if quick else LIMIT_BATCHES)},
        **{f"ours, batch {batch}": (ours, batch) for batch in BATCHES},
    }
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(ROUNDS):
        for name, (step, batch) in arms.items():
            rates[name].append(films_per_second(step, batch, seconds))
    middle = {name: statistics.median(of) for name, of in rates.items()}
    best_limit, best_ours = (max(rate for name, rate in middle.items() if name.startswith(arm)) for arm in ("l", "o"))
    decode = decode_seconds(films)
    return {
        "films_per_second": {name: round(rate, 2) for name, rate in middle.items()},
        "rounds": {name: [round(rate, 2) for rate in of] for name, of in rates.items()},
        "decode_ms_per_film_on_one_core": round(1000.0 * decode, 2),
        "decode_share": {
            f"batch {batch}": round(batch_decode_seconds(films, batch) * middle[f"ours, batch {batch}"] / batch, 3)
            for batch in BATCHES
        },
        "ratios": {"ours_over_limit": round(best_ours / best_limit, 3)},
    }


def films_per_second(step: Callable[[int, int], None], batch: int, seconds: float) -> float:
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
