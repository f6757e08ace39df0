"""A run's results: a folder, local or in an object store, of Parquet files that are whole or not there.

    DEST/_manifest.json      what is read, by which models, in how many shards; written last when a run begins
    DEST/_films.parquet      the list of films, a row group for each shard
    DEST/part-000000.parquet a shard's rows in the list's order, once all of them are there

What has a part is finished: the same command reads the other shards, and only those. Every node has to reach the
folder: decoders read their part of the list there.

Ray Data's own checkpoints (``CheckpointConfig``, 2.60) are not used. They hold every id that is done in memory, as one
sorted array of Python strings, which up to ten filter actors are each given: at 10^7 ids of 40 characters 1 GB each,
where here there are 10^4 names of parts. All films are listed and filtered anew at each start, a file for every block
is written beside the results, and nothing says that the source or the models are others than before.

Readers of Parquet (pandas, Arrow, Spark) take no notice of files whose names begin with ``_``.
"""

import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict, ValidationError

from client.journal import ERROR, IMAGE
from cluster.models import Model
from workflows.command_line import Fault
from workflows.files.atomic import written

MANIFEST, LIST = "_manifest.json", "_films.parquet"
PART = re.compile(r"part-(\d{6,})\.parquet$")


class ResultsError(Fault):
    """The folder of the results is another run's, or none of this command's."""


class Manifest(BaseModel):
    """What a run reads, and by what.

    Attributes:
        source: as it was named.
        films: how many.
        films_per_shard: of all shards but the last.
        models: by stage.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    films: int
    films_per_shard: int
    models: dict[str, Model]

    @property
    def shards(self) -> int:
        return -(-self.films // self.films_per_shard)

    def films_of(self, shard: int) -> int:
        return min(self.films_per_shard, self.films - shard * self.films_per_shard)


def read_manifest(results: str) -> Manifest | None:
    """That of the run that has this folder; None where nothing is there yet.

    Raises:
        ResultsError: something else is there.
    """
    files, folder = url_to_fs(results)
    if files.exists(f"{folder}/{MANIFEST}"):
        try:
            return Manifest.model_validate_json(files.cat_file(f"{folder}/{MANIFEST}"))
        except ValidationError as fault:
            raise ResultsError(f"{results}/{MANIFEST} is none of this command's: give --out another folder") from fault
    there = files.ls(folder, detail=False) if files.exists(folder) else []
    begun = re.compile(rf"/\.?{LIST}[^/]*$")  # by a run that was killed before it had a manifest
    if others := sorted(path for path in there if not begun.search(path)):
        raise ResultsError(f"{results} holds other files, the first: {others[0]}. Give --out another folder")
    return None


def check_same(results: str, there: Manifest, source: str, models: dict[str, Model]) -> None:
    """Raises ResultsError where a folder's run read another source, or by other models."""
    if there.source != source:
        raise ResultsError(f"{results} holds the results of {there.source}, not of {source}: give --out another folder")
    for stage, model in models.items():
        was = there.models[stage]
        if was != model:
            raise ResultsError(
                f"{results} was begun by another {stage} model: {was.version} (sha256 {was.sha256[:12]}…), this one is "
                f"{model.version} ({model.sha256[:12]}…). Give --out another folder, or --models that model's store"
            )


def begin(results: str, manifest: Manifest, films: pa.Table) -> None:
    """Writes the list of films and, last, the manifest."""
    buffer = io.BytesIO()
    pq.write_table(films, buffer, row_group_size=manifest.films_per_shard)
    _write(f"{results}/{LIST}", buffer.getbuffer())
    _write(f"{results}/{MANIFEST}", manifest.model_dump_json(indent=2).encode())


def read_films(results: str, shard: int) -> pa.Table:
    """A shard's films, rows of ``cluster.sources.FILMS``."""
    files, folder = url_to_fs(results)
    with files.open(f"{folder}/{LIST}", "rb") as file:
        return pq.ParquetFile(file).read_row_group(shard)


def finished(results: str) -> set[int]:
    """The numbers of the shards that are written."""
    files, folder = url_to_fs(results)
    files.invalidate_cache()
    return {int(found[1]) for path in files.ls(folder, detail=False) if (found := PART.search(path))}


def write_part(results: str, shard: int, rows: pa.Table) -> None:
    """A shard's rows, all of them, in the list's order."""
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    _write(f"{results}/part-{shard:06}.parquet", buffer.getbuffer())


def read_errors(results: str) -> dict[str, str]:
    """Of the films that were not read, the reason."""
    files, folder = url_to_fs(results)
    errors: dict[str, str] = {}
    for path in sorted(path for path in files.ls(folder, detail=False) if PART.search(path)):
        with files.open(path, "rb") as file:
            rows = pq.ParquetFile(file).read(columns=[IMAGE, ERROR])
        rows = rows.filter(rows[ERROR].is_valid())
        errors |= dict(zip(rows[IMAGE].to_pylist(), rows[ERROR].to_pylist(), strict=True))
    return errors


def _write(path: str, content: bytes | memoryview) -> None:
    """Local files under a name of their own, then renamed; an object of a store is there once it is whole."""
    files, inside = url_to_fs(path)
    if isinstance(files, LocalFileSystem):
        with written(Path(inside), len(content)) as new:
            new.write_bytes(content)
    else:
        files.pipe_file(inside, bytes(content))
