"""What two heads on one frozen encoder save: stage 1 sends a film's features on, stage 2 multiplies them by its head.

    python -m benchmarks.shared_encoder [--size base] [--films data/sample] [--rounds 6]

In process, every film routed, decoding included, the message packed and unpacked. Both arms are the same two
checkpoints, and take turns round by round. Prints one JSON document; ``ratio`` is the median of the rounds' own.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.films import decoded, film_paths
from benchmarks.pairs import IMAGE_SIZE, SIZES, make_pair
from handlers.findings import STAGE_LABELS
from handlers.message import pack, unpack
from handlers.metadata import METADATA_FILE, Metadata
from handlers.networks.network import encoder_sha256, load_network, save_network
from handlers.networks.vit import serving_device
from handlers.reading import Naming, Screening

FILMS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="base", help="of the encoder (%(default)s)")
    parser.add_argument("--films", type=Path, default=Path("data/sample"), help="folder with PNG films (%(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="of both arms, after one that is not counted")
    chosen = parser.parse_args()
    films = [path.read_bytes() for path in film_paths(chosen.films, FILMS)]
    with tempfile.TemporaryDirectory() as folder:
        arms = make_arms(chosen.size, films, Path(folder))
        seconds = {name: [_read(arm, films)] for name, arm in arms.items()}
        for _ in range(chosen.rounds):
            for name, arm in arms.items():
                seconds[name].append(_read(arm, films))
    counted = {name: times[1:] for name, times in seconds.items()}
    ratios = [apart / shared for apart, shared in zip(counted["apart"], counted["shared"], strict=True)]
    rates = {name: round(len(films) / statistics.median(times), 2) for name, times in counted.items()}
    print(
        json.dumps(
            {
                "size": chosen.size,
                "device": str(serving_device()),
                "threads": torch.get_num_threads(),
                "films": len(films),
                "films_per_second": rates,
                "ratio": round(statistics.median(ratios), 3),
                "ratios": [round(min(ratios), 3), round(max(ratios), 3)],
            }
        )
    )


def make_arms(size: str, films: list[bytes], folder: Path) -> dict[str, tuple[Screening, Naming]]:
    """Both stages of one pair on one encoder, without and with the archives' word that they share it."""
    pair = make_pair(size, folder / "pair", decoded(films, IMAGE_SIZE))
    first, second = (load_network(pair.folder / stage) for stage in STAGE_LABELS)
    second.encoder = first.encoder
    save_network(second, pair.folder / "disease")
    archives = pair.at_share(100)
    arms = {}
    for name, shared in (("apart", None), ("shared", encoder_sha256(archives / "binary"))):
        for stage in STAGE_LABELS:
            metadata = Metadata.read(archives / stage).model_copy(update={"shared_encoder": shared})
            (archives / stage / METADATA_FILE).write_text(metadata.model_dump_json())
        device = serving_device()
        arms[name] = Screening(archives / "binary", device), Naming(archives / "disease", device)
    return arms


def _read(arm: tuple[Screening, Naming], films: list[bytes]) -> float:
    """Seconds for all films as one batch."""
    screening, naming = arm
    begin = time.perf_counter()
    naming.name([unpack(pack(film)) for film in screening.screen(films)])
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
