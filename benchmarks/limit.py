"""The hardware's limit: both stages in process, films decoded already, no server, by the fastest engine that is here.

Everything here runs in one child process of the benchmark's (its threads and its memory are nobody else's), through
the module's functions, which keep the loaded networks between calls.
"""

import itertools
import os
import resource
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.engines import ENGINES, Eager, Run
from handlers.calibration import UNCALIBRATED, calibrated
from handlers.decoding.image import read_film, to_pixels
from handlers.findings import FINDING
from handlers.message import pack, unpack
from handlers.metadata import Metadata
from handlers.networks.precision import choose
from handlers.networks.vit import Vit, serving_device
from handlers.reading import Naming, Screening

ROUNDING = 1e-3
"""How far an engine's probability may be from torch's in the same precision, for the two to be the same network's; of
random weights in bfloat16 ``ROUNDING_BFLOAT16``."""
ROUNDING_BFLOAT16 = 0.1


@dataclass(frozen=True)
class Setting:
    """How the limit runs: films a batch, dtype by name, threads a stream; as many streams as fill the cores."""

    batch: int
    dtype: str
    threads: int
    engine: str = Eager.name

    @property
    def streams(self) -> int:
        return max(1, (os.cpu_count() or 1) // self.threads)


Films = NDArray[np.uint8]


@torch.inference_mode()
def forward(vit: Vit, films: Films, run: Run | None = None) -> NDArray[np.float32]:
    """[B, S, S] -> [B, L] by the network alone, on as many threads as torch has been told."""
    inputs = vit.inputs(films)
    logits = run(inputs) if run else vit.model(inputs).float().cpu().numpy()
    return calibrated(logits, [UNCALIBRATED] * logits.shape[1])


@cache
def _run(vit: Vit, setting: Setting) -> Run:
    return ENGINES[setting.engine].load(vit, setting.batch, setting.threads, setting.streams)


def padded(vit: Vit, films: Films, setting: Setting) -> NDArray[np.float32]:
    """``forward`` by the setting's engine; those that want one size of batch get it, filled up with the last film."""
    if setting.engine == Eager.name:
        return forward(vit, films)
    whole = np.take(films, range(setting.batch), axis=0, mode="clip")
    return forward(vit, whole, _run(vit, setting))[: len(films)]


@cache
def _vits(folder: Path, dtype: str) -> tuple[Vit, Vit]:
    device = serving_device()
    binary, disease = (Vit(folder / stage, device, getattr(torch, dtype)) for stage in ("binary", "disease"))
    for vit in (binary, disease):
        vit.warm_up()  # lazy initialisation is not the hardware's limit
    return binary, disease


def vits(share: Path, dtype: str) -> tuple[Vit, Vit, float]:
    """Both networks of a share's folder (every share has the same ones) and its threshold."""
    binary, disease = _vits((share / "binary" / "config.json").resolve().parents[1], dtype)
    return binary, disease, Metadata.read(share / "binary").thresholds[FINDING]


def probabilities(share: Path, pixels: Films, dtype: str = "float32") -> NDArray[np.float32]:
    """[N, S, S] -> [N, 15]: p(finding) and the 14, stage 2 run on every film."""
    binary, disease, _ = vits(share, dtype)
    parts = [pixels[at : at + 16] for at in range(0, len(pixels), 16)]
    logits = np.concatenate([np.hstack([vit.logits(part) for vit in (binary, disease)]) for part in parts])
    return calibrated(logits, [UNCALIBRATED] * logits.shape[1])


def search(
    share: Path, pixels: Films, batches: Sequence[int], seconds: float, engines: Sequence[str]
) -> dict[str, Any]:
    """The best engine, batch size, dtype and thread count of stage 1.

    Batches and threads are chosen with torch as it comes; then the other engines have their turn at what it chose, at
    that batch doubled, and with all threads in one stream.

    Returns:
        ``float32`` and ``best``: settings; ``best`` is bfloat16 only where the handlers serve in it, so that like is
        compared with like. ``tried``: films per second of each. ``bfloat16_difference``: the largest over films and
        labels. ``engines``: of each that was asked for its best rate by dtype, or why it has none.
    """
    cores = os.cpu_count() or 1
    exact, coarse = (probabilities(share, pixels[:16], dtype) for dtype in ("float32", "bfloat16"))
    difference = float(np.abs(exact - coarse).max())
    dtypes = ["float32", "bfloat16"] if served_dtype(share) == "bfloat16" else ["float32"]
    tried: list[dict[str, Any]] = []

    def rate(setting: Setting) -> float:
        vit = vits(share, setting.dtype)[0]
        found = _rate(setting, vit, pixels, seconds)
        tried.append({**asdict(setting), "stage_1_films_per_second": round(found, 2)})
        return found

    threads = [one for one in range(1, cores + 1) if cores % one == 0]
    best: dict[str, tuple[float, Setting]] = {}
    for dtype in dtypes:
        settings = itertools.starmap(Setting, itertools.product(batches, [dtype], threads))
        best[dtype] = max(((rate(one), one) for one in settings), key=lambda pair: pair[0])
    found: dict[str, Any] = {Eager.name: {dtype: round(rate_, 2) for dtype, (rate_, _) in best.items()}}
    for name in [name for name in engines if name != Eager.name]:
        engine = ENGINES[name]
        found[name] = engine.missing() or {}
        for dtype in [] if engine.missing() else [dtype for dtype in best if dtype in engine.dtypes]:
            if engine.slow and dtype != dtypes[-1]:
                continue
            chosen = best[dtype][1]
            sizes = [chosen.batch] if engine.slow else [chosen.batch, 2 * chosen.batch]
            ways = [chosen.threads] if engine.slow else sorted({chosen.threads, cores})
            settings = [
                replace(chosen, batch=batch, threads=threads_, engine=name)
                for batch, threads_ in itertools.product(sizes, ways)
            ]
            try:
                check_engine(share, pixels, settings[0])
                turns = [(rate(one), one) for one in settings]
            except Exception as fault:  # of a library that is not ours
                found[name][dtype] = repr(fault)[:300]
                continue
            found[name][dtype] = round(max(rate_ for rate_, _ in turns), 2)
            best[dtype] = max([best[dtype], *turns], key=lambda pair: pair[0])
    fastest = max(best.values(), key=lambda pair: pair[0])[1]
    return {
        "float32": best["float32"][1],
        "best": fastest,
        "tried": tried,
        "engines": found,
        "bfloat16_difference": difference,
    }


def check_engine(share: Path, pixels: Films, setting: Setting) -> None:
    """Raises ValueError where the setting's engine says another thing of films than torch in the same precision."""
    vit, films = vits(share, setting.dtype)[0], pixels[: setting.batch]
    apart = float(np.abs(padded(vit, films, setting) - forward(vit, films)).max())
    allowed = ROUNDING if setting.dtype == "float32" else ROUNDING_BFLOAT16
    if apart > allowed:
        raise ValueError(f"its probabilities are {apart:.4f} from torch's")


def _rate(setting: Setting, vit: Vit, pixels: Films, seconds: float) -> float:
    def stream() -> Steps:
        return lambda films: padded(vit, films, setting), lambda: None

    return _in_streams(setting, pixels, seconds, [vit], stream)[0]


def films_per_second(share: Path, pixels: Films, setting: Setting, seconds: float) -> dict[str, float]:
    """Both stages, stage 2 on the routed films only, which wait until they fill a batch of their stream's."""
    binary, disease, threshold = vits(share, setting.dtype)
    routed = itertools.count()

    def stream() -> Steps:
        waiting: list[NDArray[np.uint8]] = []

        def name(number: int) -> None:
            padded(disease, np.stack(waiting[:number]), setting)
            del waiting[:number]

        def both(films: Films) -> None:
            chosen = films[padded(binary, films, setting)[:, 0] >= threshold]
            waiting.extend(chosen)
            for _ in chosen:
                next(routed)
            if len(waiting) >= setting.batch:
                name(setting.batch)

        return both, lambda: name(len(waiting)) if waiting else None

    rate, films, spent = _in_streams(setting, pixels, seconds, [binary, disease], stream)
    return {
        "films_per_second": rate,
        "disease_runs_per_film": next(routed) / films,
        "cpu_seconds_per_film": spent / films,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


Steps = tuple[Callable[[Films], object], Callable[[], object]]
"""What a stream does with a batch, and what it has left to do at its end."""


def _in_streams(
    setting: Setting, pixels: Films, seconds: float, networks: Sequence[Vit], stream: Callable[[], Steps]
) -> tuple[float, int, float]:
    """Films per second of batches of the films in turn, in as many streams as the setting has, how many they were, and
    the CPU seconds that they took.

    The rate is the sum of the streams' own ones: one that has ended leaves its core idle, and that is no limit. The
    clock starts when every stream has run a batch: torch.compile compiles anew for each thread.
    """
    for vit in networks:
        padded(vit, pixels[: setting.batch], setting)  # the engine is loaded once for all streams
    numbers = itertools.count()
    spent: list[float] = []
    together = threading.Barrier(setting.streams, lambda: spent.append(time.process_time()))

    def run() -> tuple[float, int]:
        torch.set_num_threads(setting.threads)
        for vit in networks:
            padded(vit, pixels[: setting.batch], setting)
        step, last = stream()
        together.wait()
        done, start = 0, time.perf_counter()
        while not done or time.perf_counter() - start < seconds:
            at = next(numbers) * setting.batch
            step(np.take(pixels, range(at, at + setting.batch), axis=0, mode="wrap"))
            done += setting.batch
        last()
        return done / (time.perf_counter() - start), done

    with ThreadPoolExecutor(setting.streams) as pool:
        ran = list(pool.map(lambda _: run(), range(setting.streams)))
    return sum(rate for rate, _ in ran), sum(films for _, films in ran), time.process_time() - spent[0]


def single_films(share: Path, films: Sequence[bytes], dtype: str) -> list[float]:
    """Milliseconds from a film's bytes to its probabilities, one film at a time on every core."""
    binary, disease, threshold = vits(share, dtype)
    torch.set_num_threads(os.cpu_count() or 1)

    def read(film: bytes) -> None:
        pixels = to_pixels(read_film(film), binary.image_size)[None]
        if forward(binary, pixels)[0, 0] >= threshold:
            forward(disease, pixels)

    return [_timed(partial(read, film))[1] for film in films]


def parts(share: Path, films: Sequence[bytes]) -> list[dict[str, float]]:
    """Milliseconds of each step of the served code on each of these routed films, one film at a time."""
    screening, naming = Screening(share / "binary", serving_device()), Naming(share / "disease", serving_device())
    torch.set_num_threads(os.cpu_count() or 1)
    return [_parts_of(film, screening, naming) for film in films]


def _parts_of(film: bytes, screening: Screening, naming: Naming) -> dict[str, float]:
    pixels, decode = _timed(lambda: to_pixels(read_film(film), screening.vit.image_size))
    _, binary_vit = _timed(lambda: screening.vit.logits(pixels[None]))
    screened = screening.screen([film])[0]
    message, hop = _timed(lambda: unpack(pack(screened)))
    _, disease_vit = _timed(lambda: naming.vit.logits(pixels[None]))
    (report,), named = _timed(lambda: naming.name([message]))
    _, words = _timed(report.model_dump_json)
    reply = max(0.0, named - disease_vit) + words
    return {"decode": decode, "binary_vit": binary_vit, "hop": hop, "disease_vit": disease_vit, "reply": reply}


def _timed(step: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = step()
    return result, 1000.0 * (time.perf_counter() - start)


def hop_bytes(share: Path, films: Sequence[bytes]) -> dict[str, int]:
    """The largest message between the nodes for an unrouted and for a routed film; 0 where there is none."""
    screened = Screening(share / "binary", serving_device()).screen(films)
    sizes = [(getattr(one, "routed", False), len(pack(one))) for one in screened]
    return {
        "unrouted": max((size for routed, size in sizes if not routed), default=0),
        "routed": max((size for routed, size in sizes if routed), default=0),
    }


def served_dtype(share: Path) -> str:
    """The precision that the handlers choose for these archives on this machine."""
    metadata = Metadata.read(share / "binary")
    return choose(metadata.precision, metadata.bfloat16, serving_device()).precision
