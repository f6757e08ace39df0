"""Scores films by the million on a Ray cluster: Parquet files with the columns of predictions.csv, a row a film.

    python -m cluster.score /data/films --out /data/scored
    python -m cluster.score s3://bucket/films.parquet --out s3://bucket/scored --address auto

SOURCE is a folder, a list of films (one a line), a Parquet table with a column 'path', a .zip or .tar archive, or a
folder of archives, local or where fsspec reaches. Without --address and RAY_ADDRESS a Ray of this machine's own is
started for the run. After a kill of a node, or of this command, the same command goes on: films of a finished file are
not read again. A film that cannot be read is a row with an error. Models are the two archives of --models, which lie
there on every node.

Exit code: 0 every film was read; 1 a file is missing, or a fault; 4 a film was refused; 130 Ctrl-C.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from tqdm import tqdm

from client.score import say_outcome
from cluster.models import Model, models_of
from cluster.results import Manifest, ResultsError, begin, check_same, finished, read_errors, read_manifest, write_part
from cluster.sources import list_films
from cluster.steps import PLACE, SHARD
from workflows import command_line

FILMS_PER_SHARD = 1000


def score(results: str, manifest: Manifest, store: Path, address: str | None) -> None:
    """Writes the parts that a run lacks.

    Raises:
        Fault: the cluster or the films' store is away, or films were lost on the way.
    """
    from cluster.pipeline import connected, readings  # a run that is finished needs no Ray

    done = finished(results)
    films = sum(manifest.films_of(shard) for shard in done)
    pace = 0.5 if sys.stderr.isatty() else 60.0  # where nobody watches, a line a minute is enough
    with connected(address), tqdm(total=manifest.films, initial=films, unit=" films", mininterval=pace) as bar:
        while left := [shard for shard in range(manifest.shards) if shard not in done]:
            for shard, rows in whole_shards(readings(left, results, store, manifest.models), manifest, bar):
                write_part(results, shard, rows)
                done.add(shard)
            if not done.intersection(left):
                raise ResultsError(f"none of {len(left)} shards came whole from the cluster: see its logs")


def whole_shards(
    tables: Iterator[pa.Table], manifest: Manifest, bar: "tqdm[NoReturn]"
) -> Iterator[tuple[int, pa.Table]]:
    """A shard's number and its rows, in the list's order, once all of them have come.

    A film that comes twice, as one may from a task that was run again, counts once.
    """
    waiting: dict[int, dict[int, pa.Table]] = {}
    whole = set[int]()
    for table in tables:
        for at, (shard, place) in enumerate(zip(table[SHARD].to_pylist(), table[PLACE].to_pylist(), strict=True)):
            rows = waiting.setdefault(shard, {})
            if shard in whole or place in rows:
                continue
            rows[place] = table.slice(at, 1)
            bar.update()
            if len(rows) == manifest.films_of(shard):
                whole.add(shard)
                yield shard, pa.concat_tables(rows[place] for place in sorted(rows)).drop_columns([SHARD, PLACE])
                waiting[shard] = {}


def main(arguments: Sequence[str] | None = None, prog: str = "python -m cluster.score") -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(words, prog)
    source, results, models = _whole_path(chosen.source), _whole_path(chosen.out), models_of(chosen.models)
    manifest = read_manifest(results) or _begun(source, results, chosen.films_per_file, models)
    check_same(results, manifest, source, models)
    if len(finished(results)) < manifest.shards:
        try:
            score(results, manifest, chosen.models.absolute(), chosen.address)
        except BaseException:
            there = f"{len(finished(results))} of {manifest.shards} files are in {results}"
            print(f"{there}; the same command goes on from there: {prog} {shlex.join(words)}", file=sys.stderr)
            raise
    return say_outcome(results, manifest.films, read_errors(results))


def _parse(words: Sequence[str], prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SOURCE", help="the films")
    parser.add_argument("--out", required=True, metavar="DEST", help="the folder to write; empty, or this run's")
    parser.add_argument(
        "--models", type=Path, default=Path("model_store"), metavar="STORE", help="what 'make archive' has written"
    )
    parser.add_argument("--address", default=os.environ.get("RAY_ADDRESS"), help="of a Ray cluster (RAY_ADDRESS)")
    parser.add_argument(
        "--films-per-file", type=_positive, default=FILMS_PER_SHARD, metavar="N", help="of a new run (%(default)s)"
    )
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _whole_path(name: str) -> str:
    """The same for every node, whatever folder its processes are in."""
    files, path = url_to_fs(name)
    return str(path) if isinstance(files, LocalFileSystem) else name.rstrip("/")


def _begun(source: str, results: str, films_per_shard: int, models: dict[str, Model]) -> Manifest:
    films = list_films(source)
    manifest = Manifest(source=source, films=len(films), films_per_shard=films_per_shard, models=models)
    begin(results, manifest, films)
    return manifest


if __name__ == "__main__":
    command_line.run(main)
