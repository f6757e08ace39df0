"""The steps of a reading as Ray Data runs them, each from one table of films to the next.

What stage 1 tells stage 2 is the message of the service's two nodes (``handlers.message``), which has neither pixels
nor features of a film that the gate skips.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from client.journal import COLUMNS, IMAGE, PROBABILITIES, ROUTED, row_of
from cluster.film_files import read_files
from cluster.models import Model, unpacked
from cluster.results import read_films
from cluster.sources import Place
from handlers.decoding.batch import INTERNAL, Decoded, Decoding, decode
from handlers.message import pack, unpack
from handlers.refusals import MAX_BYTES
from handlers.report import FilmFacts, Refusal, Report

SHARD, PLACE, SHA256, REASON = "shard", "place", "sha256", "reason"
KEY = pa.schema({SHARD: pa.int32(), PLACE: pa.int32(), IMAGE: pa.string(), SHA256: pa.string()})
"""Which film a row is of: the shard of the results that it will be in, its place there, its name and its bytes' sum."""
DECODED = pa.schema([*KEY, ("pixels", pa.binary()), ("facts", pa.string()), ("refusal", pa.string())])
MESSAGE = "message"
TYPES = {**dict.fromkeys(PROBABILITIES, pa.float64()), ROUTED: pa.bool_()}
READING = pa.schema(
    [(SHARD, pa.int32()), (PLACE, pa.int32())]
    + [(column, TYPES.get(column, pa.string())) for column in (*COLUMNS, REASON, SHA256)]
)
"""The columns of ``predictions.csv``, the refusal's words and the film's sum."""

logger = logging.getLogger(__name__)

Sent = TypeVar("Sent")
Got = TypeVar("Got")


class Decode:
    """Shards' numbers to rows of ``DECODED``, some films at a time.

    Args:
        results: where the run's list of films lies.
        side: of the models' pictures.
        at_once: films that are fetched and decoded together.
    """

    def __init__(self, results: str, side: int, at_once: int) -> None:
        self.results, self.at_once = results, at_once
        self.decoding = Decoding(partial(decode, side=side))

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        for shard in shards[SHARD].to_pylist():
            films = read_films(self.results, shard)
            for start in range(0, len(films), self.at_once):
                yield self._decoded(shard, start, films.slice(start, self.at_once))

    def _decoded(self, shard: int, start: int, films: pa.Table) -> pa.Table:
        files = read_files([Place(*row.values()) for row in films.drop_columns([IMAGE]).to_pylist()])
        decoded = iter(self.decoding.decode([one for one in files if not isinstance(one, Refusal)]))
        found = [one if isinstance(one, Refusal) else next(decoded) for one in files]
        whole = [None if isinstance(one, Refusal) or len(one) > MAX_BYTES else one for one in files]
        columns = {
            SHARD: [shard] * len(films),
            PLACE: range(start, start + len(films)),
            IMAGE: films[IMAGE],
            SHA256: [None if one is None else hashlib.sha256(one).hexdigest() for one in whole],
            "pixels": [None if isinstance(one, Refusal) else one.pixels.tobytes() for one in found],
            "facts": [None if isinstance(one, Refusal) else one.facts.model_dump_json() for one in found],
            "refusal": [one.model_dump_json() if isinstance(one, Refusal) else None for one in found],
        }
        return pa.table(columns, schema=DECODED)


class Screen:
    """Stage 1 and the gate, in an actor: rows of ``DECODED`` to the same films' messages."""

    def __init__(self, store: str, model: Model) -> None:
        from handlers.networks.vit import serving_device  # torch is for the actors alone
        from handlers.reading import Screening

        with unpacked(Path(store), "binary", model.sha256) as folder:
            self.screening = Screening(folder, serving_device())

    def __call__(self, films: pa.Table) -> pa.Table:
        side = self.screening.vit.image_size
        decoded = [_film(row, side) for row in films.select(["pixels", "facts", "refusal"]).to_pylist()]
        screened = _tried(self.screening.screen_decoded, decoded, self.screening.vit.end_if_broken)
        messages = pa.array([pack(film) for film in screened], pa.binary())
        return films.select(KEY.names).append_column(MESSAGE, messages)


class Name:
    """Stage 2, in an actor: messages to rows of ``READING``. Its ViT runs on routed films alone."""

    def __init__(self, store: str, model: Model) -> None:
        from handlers.networks.vit import serving_device
        from handlers.reading import Naming

        with unpacked(Path(store), "disease", model.sha256) as folder:
            self.naming = Naming(folder, serving_device())

    def __call__(self, films: pa.Table) -> pa.Table:
        messages = [unpack(message) for message in films[MESSAGE].to_pylist()]
        reports: list[Report | Refusal] = _tried(self.naming.name, messages, self.naming.vit.end_if_broken)
        keys = films.select(KEY.names).to_pylist()
        rows = [key | row_of(key[IMAGE], report) | _reason(report) for key, report in zip(keys, reports, strict=True)]
        return pa.Table.from_pylist(rows, schema=READING)


def _reason(report: Report | Refusal) -> dict[str, str]:
    return {REASON: report.error.message} if isinstance(report, Refusal) else {}


def _film(row: dict[str, object], side: int) -> Decoded | Refusal:
    if row["refusal"]:
        return Refusal.model_validate_json(str(row["refusal"]))
    facts = FilmFacts.model_validate_json(str(row["facts"]))
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(side, side)  # type: ignore[call-overload]
    return Decoded(pixels, (facts.height, facts.width), facts)


def _tried(
    step: Callable[[Sequence[Sent]], list[Got | Refusal]], films: Sequence[Sent], end_if_broken: Callable[[], None]
) -> list[Got | Refusal]:
    """A step's answers. Where it fails on a batch it is tried film by film: one must not cost the others theirs."""
    try:
        return step(films)
    except Exception:
        logger.exception("a step failed on %d films", len(films))
        end_if_broken()
        if len(films) == 1:
            return [INTERNAL]
        return [answer for film in films for answer in _tried(step, [film], end_if_broken)]
