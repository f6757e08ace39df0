"""Over 2,000 hostile bodies: each is read or refused by name in time, and the service is afterwards what it was."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from handlers.decoding.batch import BUSY, DECODE_SECONDS
from handlers.refusals import CODES
from tests.gateway.conftest import Gateway
from tests.live.clients import Answer, in_turn, read_alone
from tests.live.footprint import fill_heap, footprint
from tests.live.hostile_bodies import hostile_bodies
from tests.live.mutants import mutants, real_films
from workflows.server import Server

NIH = Path(__file__).parents[3] / "shared" / "nih-1024"
LEAST = 2000
DRAWN = 2800
"""Mutants that Hypothesis draws; some turn out alike."""
CLIENTS = 6
LONGEST = BUSY * DECODE_SECONDS
"""Seconds for any answer: by the clock the service itself gives a film up then, on a busy machine, too."""


@pytest.fixture(scope="module")
def made(film_paths: list[Path]) -> dict[str, bytes]:
    """By hand: what it is, and the body."""
    return hostile_bodies(Image.open(film_paths[0]).convert("L"))


@pytest.fixture(scope="module")
def drawn(film_paths: list[Path]) -> dict[str, bytes]:
    """By Hypothesis: the recipe, and the body; no two alike."""
    films = real_films(film_paths, NIH)
    spoilt = {mutant.body(films): repr(mutant) for mutant in mutants(films, DRAWN)}
    return {name: body for body, name in spoilt.items()}


@pytest.mark.slow
def test_hostile_bodies_are_refused_by_name_in_time_and_leave_no_trace(
    gateway: Gateway,
    server: Server,
    made: dict[str, bytes],
    drawn: dict[str, bytes],
    films: list[bytes],
    tmp_path: Path,
) -> None:
    bodies, names = made | drawn, list(drawn)
    assert len(bodies) >= LEAST
    alone = read_alone(gateway, films[:3])
    fill_heap(gateway)
    answers = send(gateway, bodies, [*made, *names])
    warm = footprint(server, gateway)
    answers += send(gateway, bodies, [*names[1::2], *made])
    after = footprint(server, gateway)

    refused = Counter(answer.problem for _, answer in answers if answer.status != 200)
    print(f"\n{len(bodies)} bodies, {len(answers)} requests: refused {dict(refused)}, the others read")
    print(f"slowest {max(answer.seconds for _, answer in answers):.2f} s\nbefore {warm}\nafter  {after}")
    bad = {name: why for name, answer in answers if (why := wrong(answer))}
    for number, name in enumerate(bad):
        (tmp_path / f"{number}.body").write_bytes(bodies[name])
    assert not bad, "\n".join(f"{tmp_path}/{at}.body: {name}: {why}" for at, (name, why) in enumerate(bad.items()))
    assert after.growth(warm) == []
    assert read_alone(gateway, films[:3]) == {film: pytest.approx(each, abs=1e-4) for film, each in alone.items()}
    assert {"UnreadableImage", "TruncatedImage", "ImageTooLarge", "NotARadiograph"} <= set(refused)


def send(gateway: Gateway, bodies: Mapping[str, bytes], names: list[str]) -> list[tuple[str, Answer]]:
    return list(zip(names, in_turn(gateway, [bodies[name] for name in names], CLIENTS), strict=True))


def wrong(answer: Answer) -> str:
    """What is wrong with the answer to a hostile body; empty where nothing is."""
    if answer.seconds > LONGEST:
        return f"{answer.seconds:.1f} s until HTTP {answer.status} {answer.body[:200]!r}"
    if answer.status == 200 or CODES.get(answer.problem) == answer.status:
        return ""
    return f"HTTP {answer.status} {answer.problem}"
