"""Over 2,000 hostile bodies: each is read or refused by name in time, and the service is afterwards what it was."""

from collections import Counter
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from handlers.refused import CODES
from tests.gateway.conftest import Gateway
from tests.live.clients import Answer, in_turn, read_alone
from tests.live.footprint import footprint
from tests.live.hostile_bodies import hostile_bodies
from tests.live.mutants import mutants, real_films
from workflows.server import Server

NIH = Path(__file__).parents[3] / "shared" / "nih-1024"
LEAST = 2000
DRAWN = 2800
"""Mutants that Hypothesis draws; some turn out alike."""
CLIENTS = 6
LONGEST = 5.0
"""Seconds for any answer."""


@pytest.fixture(scope="module")
def bodies(film_paths: list[Path]) -> dict[str, bytes]:
    """What is sent, by what it is; no two alike."""
    films = real_films(film_paths, NIH)
    with BytesIO(films[film_paths[0].name]) as file:
        made = hostile_bodies(Image.open(file).convert("L"))
    spoilt = {repr(mutant): mutant.body(films) for mutant in mutants(films, DRAWN)}
    alike = {body: name for name, body in (films | spoilt | made).items()}
    return {name: body for body, name in alike.items()}


def test_hostile_bodies_are_refused_by_name_in_time_and_leave_no_trace(
    gateway: Gateway, server: Server, bodies: dict[str, bytes], films: list[bytes], tmp_path: Path
) -> None:
    assert len(bodies) >= LEAST
    names = list(bodies)
    alone = read_alone(gateway, films[:3])
    answers = send(gateway, bodies, names[::2])
    warm = footprint(server, gateway)
    answers |= send(gateway, bodies, names[1::2])
    after = footprint(server, gateway)

    refused = Counter(answer.problem for answer in answers.values() if answer.status != 200)
    print(f"\n{len(answers)} bodies: {len(answers) - refused.total()} read, refused {dict(refused)}")
    print(f"slowest {max(answer.seconds for answer in answers.values()):.2f} s\nbefore {warm}\nafter  {after}")
    bad = {name: why for name, answer in answers.items() if (why := wrong(answer))}
    for number, name in enumerate(bad):
        (tmp_path / f"{number}.body").write_bytes(bodies[name])
    assert not bad, "\n".join(f"{tmp_path}/{at}.body: {name}: {why}" for at, (name, why) in enumerate(bad.items()))
    assert after.growth(warm) == []
    assert read_alone(gateway, films[:3]) == {film: pytest.approx(each, abs=1e-4) for film, each in alone.items()}
    assert {"UnreadableImage", "TruncatedImage", "ImageTooLarge", "NotARadiograph"} <= set(refused)


def send(gateway: Gateway, bodies: Mapping[str, bytes], names: list[str]) -> dict[str, Answer]:
    return dict(zip(names, in_turn(gateway, [bodies[name] for name in names], CLIENTS), strict=True))


def wrong(answer: Answer) -> str:
    """What is wrong with the answer to a hostile body; empty where nothing is."""
    if answer.seconds > LONGEST:
        return f"{answer.seconds:.1f} s until HTTP {answer.status} {answer.body[:200]!r}"
    if answer.status == 200 or CODES.get(answer.problem) == answer.status:
        return ""
    return f"HTTP {answer.status} {answer.problem}"
