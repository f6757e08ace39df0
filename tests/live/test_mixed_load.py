"""One film in twenty is bad, among 2,000 at a concurrency of 32: every good one gets the report that it gets alone."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from handlers.refusals import CODES
from tests.gateway.conftest import Gateway
from tests.live.clients import in_turn, is_report_of, read_alone
from tests.live.footprint import footprint
from tests.live.mutants import as_radiograph
from workflows.server import Server

FILMS, BAD = 2000, 100
CLIENTS = 32
DIFFERENT = 80
"""Good films; they come again and again, in another order each time."""


def bad_films(film: bytes) -> dict[bytes, str]:
    """Film -> the type of its refusal."""
    return {
        b"": "EmptyRequest",
        b"a letter": "UnreadableImage",
        bytes(2**20): "UnreadableImage",
        film[: len(film) // 2]: "TruncatedImage",
        film[:16] + (50_000).to_bytes(4, "big") * 2 + film[24:]: "TruncatedImage",  # its checksum does not fit
        Path(str(get_testdata_file("CT_small.dcm"))).read_bytes(): "NotARadiograph",
        as_radiograph("JPGExtended.dcm"): "UnsupportedTransferSyntax",
        as_radiograph("693_J2KR.dcm")[:-20_000]: "TruncatedImage",
    }


@pytest.mark.slow
def test_no_bad_film_spoils_another(gateway: Gateway, server: Server, films: list[bytes]) -> None:
    good, bad = films[:DIFFERENT], bad_films(films[0])
    alone = read_alone(gateway, good)
    before = footprint(server, gateway).pids
    mixed = [good[at % len(good)] for at in range(FILMS - BAD)] + [[*bad][at % len(bad)] for at in range(BAD)]
    np.random.default_rng(0).shuffle(order := list(range(FILMS)))
    mixed = [mixed[at] for at in order]

    answers = in_turn(gateway, mixed, CLIENTS)

    refused = [(film, answer) for film, answer in zip(mixed, answers, strict=True) if film in bad]
    read = [(film, answer) for film, answer in zip(mixed, answers, strict=True) if film not in bad]
    print(f"\n{len(read)} good films, {len(refused)} bad {dict(Counter(answer.problem for _, answer in refused))}")
    print(f"slowest {max(answer.seconds for answer in answers):.2f} s")
    assert (len(read), len(refused)) == (FILMS - BAD, BAD)
    assert [(answer.problem, answer.status) for _, answer in refused] == [
        (bad[film], CODES[bad[film]]) for film, _ in refused
    ]
    assert [answer for film, answer in read if not is_report_of(answer, alone[film])] == []
    assert footprint(server, gateway).pids == before
