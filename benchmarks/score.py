"""What an archive costs by client.score, beside the benchmark's own client: films per second, and their ratio.

    python -m benchmarks.score

Both send the same films through the same gateway to a ViT-B/16 pair of random weights, half of the films routed, in
turn. client.score counts from its call to the finished table.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import load
from benchmarks.arms.ours import Gateway, Workflow
from benchmarks.films import decoded, film_paths
from benchmarks.pairs import IMAGE_SIZE, make_pair
from benchmarks.serving import NIH, SAMPLE, say
from client import score
from client.gateway import CONNECTIONS
from workflows.torchserve import MALLOC


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score", description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=Path, default=NIH if NIH.exists() else SAMPLE, help="folder with PNG films")
    parser.add_argument("--pair", choices=("base", "small", "tiny"), default="base", help="(%(default)s)")
    parser.add_argument("--number", type=int, default=240, help="of films a turn (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    chosen = parser.parse_args()
    os.environ.update(MALLOC)
    paths = film_paths(chosen.films, 88)
    films = [path.read_bytes() for path in paths]
    workflow = Workflow()
    gateway = Gateway(workflow)
    with tempfile.TemporaryDirectory(prefix="cxr-") as name:
        folder = Path(name)
        pair = make_pair(chosen.pair, folder / chosen.pair, decoded(films, IMAGE_SIZE))
        order = pair.alternating()
        archive = link([paths[at] for at in order], chosen.number, folder / "archive")
        try:
            workflow.start(pair.at_share(50), folder / "server")
            gateway.start(pair.at_share(50), folder / "gateway")
            found = compare(gateway, [films[at] for at in order], archive, folder, chosen.rounds)
        finally:
            gateway.stop()
            workflow.stop()
    for name, rates in found.items():
        print(f"{name:16} {', '.join(f'{rate:.2f}' for rate in rates)} films/s")
    ours, client = (statistics.fmean(rates) for rates in found.values())
    print(f"{'ratio':16} {ours / client:.3f}")
    return 0


def link(paths: Sequence[Path], number: int, archive: Path) -> list[Path]:
    """An archive of so many films, the same ones again and again, in an order that the film list keeps."""
    archive.mkdir()
    links = [archive / f"{at:06}.png" for at in range(number)]
    for at, one in enumerate(links):
        one.symlink_to(paths[at % len(paths)].resolve())
    return links


def compare(
    gateway: Gateway, films: list[bytes], archive: list[Path], folder: Path, rounds: int
) -> dict[str, list[float]]:
    """Films per second of each turn."""
    target = gateway.target(films)
    key = folder / "gateway" / "secrets" / "first.key"
    load.closed_loop(target, CONNECTIONS, 5.0)
    found: dict[str, list[float]] = {"client.score": [], "closed loop": []}
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds}")
        table = folder / f"{turn}.csv"
        words = [archive[0].parent, "--out", table, "--address", f"http://{target.host}:{target.port}"]
        started = time.perf_counter()
        code = score.main([*map(str, words), "--key-file", str(key)])
        if code:
            raise SystemExit(f"client.score ended with {code}")
        found["client.score"].append(len(archive) / (time.perf_counter() - started))
        seen = load.closed_loop(target, CONNECTIONS, 0.0, least=len(archive))
        found["closed loop"].append(load.films_per_second(seen))
    return found


if __name__ == "__main__":
    sys.exit(main())
