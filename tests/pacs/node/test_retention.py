"""The disk is bounded by age and by size; what is not delivered stays."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset

from pacs.film_files import film_file
from pacs.film_queue import QUEUE_FILE, Film, FilmQueue, State
from pacs.reception import FULL, GB, TAKEN, Reception
from pacs.retention import DAY, REMEMBERED, Retention
from pacs.settings import Peer, Settings
from tests.gateway.stand_in import report_of
from tests.handlers.dicom_files import written

NewFilm = Callable[..., Dataset]


REPORT = report_of(0.7)


class Folder:
    """A node's folder without the node: films come in, end, and are looked after."""

    def __init__(self, folder: Path, **limits: float) -> None:
        peers = (Peer(ae_title="PACS", host="127.0.0.1", port=104),)
        self.settings = Settings(folder=folder, peers=peers, min_free_gb=0.0, **limits)
        self.queue = FilmQueue(folder)
        self.retention = Retention(self.settings, self.queue)
        self.not_taken: list[tuple[str, str]] = []
        self.reception = Reception(
            self.settings, self.queue, self.retention.make_room, lambda *said: self.not_taken.append(said)
        )

    def take(self, film: Dataset):
        return self.reception.take(written(film), "PACS")

    def ended(self, film: Dataset, state: State, days_ago: float = 0.0) -> Film:
        """A film that was taken, and then came into a state so long ago."""
        assert self.take(film) == TAKEN
        its = self.queue.film(film.SOPInstanceUID)
        assert its is not None
        self.queue.become(its, state)
        with sqlite3.connect(self.settings.folder / QUEUE_FILE) as rows:
            rows.execute("UPDATE films SET changed=changed-? WHERE id=?", (days_ago * DAY, its.id))
            rows.execute("UPDATE studies SET changed=changed-?", (days_ago * DAY,))
        return its

    def has(self, film: Dataset) -> bool:
        return film_file(self.settings.folder, film.SOPInstanceUID).exists()


@pytest.mark.parametrize(
    ("state", "stays"),
    [
        (State.DELIVERED, False),
        (State.REFUSED, False),
        (State.STUCK, True),
        (State.READ, True),
        (State.RECEIVED, True),
    ],
)
def test_films_that_have_ended_go_at_their_age_and_no_others(
    tmp_path: Path, new_film: NewFilm, state: State, stays: bool
) -> None:
    node, old, young = Folder(tmp_path / "node", keep_days=7.0), new_film(), new_film()
    node.ended(old, state, days_ago=8.0)
    node.ended(young, state, days_ago=6.0)
    node.retention.look()
    assert (node.has(old), node.has(young)) == (stays, True)
    assert node.queue.film(old.SOPInstanceUID) is not None


def test_a_film_whose_files_have_gone_is_known_for_a_year(tmp_path: Path, new_film: NewFilm) -> None:
    node, film = Folder(tmp_path / "node"), new_film()
    node.ended(film, State.DELIVERED, days_ago=REMEMBERED - 1)
    node.retention.look()
    assert node.take(film) == TAKEN
    assert not node.has(film)
    its = node.queue.film(film.SOPInstanceUID)
    assert its is not None
    assert its.state is State.DELIVERED
    with sqlite3.connect(node.settings.folder / QUEUE_FILE) as rows:
        rows.execute("UPDATE films SET changed=changed-?", (2 * DAY,))
    node.retention.look()
    assert node.queue.film(film.SOPInstanceUID) is None


def test_films_that_have_ended_make_room_oldest_first_and_then_there_is_none(tmp_path: Path, new_film: NewFilm) -> None:
    films = [new_film() for _ in range(5)]
    size = len(written(films[0]))
    node = Folder(tmp_path / "node", max_gb=3.5 * size / GB)
    node.queue.was_read(node.ended(films[0], State.DELIVERED), REPORT, [], 0)
    node.ended(films[0], State.DELIVERED, days_ago=2.0)
    node.ended(films[1], State.DELIVERED, days_ago=1.0)
    node.ended(films[2], State.STUCK)
    assert node.take(films[3]) == TAKEN
    assert [node.has(film) for film in films] == [False, True, True, True, False]
    assert node.take(films[4]) == TAKEN
    assert [node.has(film) for film in films] == [False, False, True, True, True]
    assert node.queue.reports_of(films[0].StudyInstanceUID) == [REPORT]  # for its study's summary
    last = new_film()
    assert node.take(last) == FULL
    assert node.not_taken == [("PACS", "A700")]
    assert not node.has(last)
    assert node.queue.film(last.SOPInstanceUID) is None


def test_what_a_killed_node_had_not_acknowledged_goes_at_the_next_start(tmp_path: Path, new_film: NewFilm) -> None:
    node, film = Folder(tmp_path / "node"), new_film()
    node.take(film)
    left = film_file(node.settings.folder, "1.2.3")
    left.write_bytes(b"a film without a row")
    partial = left.with_name(".1.2.4.dcm.0a1b.partial")
    partial.write_bytes(b"half of one")
    node.retention.clean()
    assert sorted(left.parent.iterdir()) == [film_file(node.settings.folder, film.SOPInstanceUID)]
