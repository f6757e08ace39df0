"""Films in by DICOM, reports out by DICOM: each once, in its own study, whatever happens."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from pydicom import Dataset
from pynetdicom.sop_class import ComprehensiveSRStorage

from benchmarks.arms.reserved_ports import free_ports
from pacs.film_queue import State
from tests.gateway.conftest import Gateway
from tests.live.clients import TOLERANCE, probabilities
from tests.pacs.node.archive import Archive
from tests.pacs.node.conftest import StartNode
from tests.pacs.node.films import PATIENT, real
from tests.pacs.node.process import Node

NewFilm = Callable[..., Dataset]


@pytest.fixture(scope="module")
def committing() -> Iterator[Archive]:
    """A PACS that offers storage commitment."""
    one = Archive("COMMITS", free_ports(1)[0], commits=True).open()
    yield one
    one.close()


@pytest.fixture(scope="module")
def absent() -> Iterator[Archive]:
    """A PACS that is not there yet."""
    one = Archive("LATE", free_ports(1)[0])
    yield one
    one.close()


@pytest.fixture(scope="module")
def node(start_node: StartNode, archive: Archive, committing: Archive, absent: Archive) -> Node:
    return start_node([archive.peer, committing.peer, absent.peer])


def test_a_film_s_report_comes_back_in_its_study_and_says_what_the_service_says(
    node: Node, archive: Archive, gateway: Gateway
) -> None:
    film = real("RG1_J2KI.dcm")
    film.decompress(generate_instance_uid=False)
    assert archive.send(node, film) == 0x0000
    sr = archive.report_of(film)
    for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate"):
        assert sr[name].value == film[name].value
    assert sr.SOPClassUID == ComprehensiveSRStorage
    film_on_disk = (node.folder / "films" / f"{film.SOPInstanceUID}.dcm").read_bytes()
    node.wait_for(film, State.DELIVERED)
    (kept,) = node.queue.reports_of(film.StudyInstanceUID)
    assert kept is not None
    answer = probabilities(gateway.read(film_on_disk).content)
    assert probabilities(kept.model_dump_json().encode()) == pytest.approx(answer, abs=TOLERANCE)


def test_a_film_that_is_sent_again_is_taken_and_reported_once(node: Node, archive: Archive, new_film: NewFilm) -> None:
    film = new_film()
    assert [archive.send(node, film) for _ in range(3)] == [0x0000] * 3
    sr = archive.report_of(film)
    node.wait_for(film, State.DELIVERED)
    film.InstitutionName = "as another sender encodes it"
    assert archive.send(node, film) == 0x0000
    after = new_film()
    archive.send(node, after)
    archive.report_of(after)
    assert archive.times[sr.SOPInstanceUID] == 1


def test_another_patient_s_film_of_the_same_uid_is_not_taken(node: Node, archive: Archive, new_film: NewFilm) -> None:
    film = new_film()
    assert archive.send(node, film) == 0x0000
    film.PatientID = "somebody else"
    assert archive.send(node, film) == 0xC000
    assert archive.report_of(film).PatientID != "somebody else"


def test_a_report_that_comes_back_by_auto_routing_is_no_film(node: Node, archive: Archive, new_film: NewFilm) -> None:
    film = new_film()
    archive.send(node, film)
    node.wait_for(film, State.DELIVERED)
    ((own, (_, _)), *_) = node.queue.objects_of([node.wait_for(film, State.DELIVERED)]).items()
    sent_back = new_film(SOPInstanceUID=own)
    assert archive.send(node, sent_back) == 0x0000
    assert node.film(sent_back) is None


def test_a_report_waits_for_a_pacs_that_is_away(node: Node, absent: Archive, new_film: NewFilm) -> None:
    film = new_film()
    assert absent.send(node, film) == 0x0000
    node.until(lambda: "does not answer" in (node.film(film) or pytest.fail("gone")).reason)
    assert "does not answer" in node.run("--status").stdout
    absent.open()
    absent.report_of(film)
    node.wait_for(film, State.DELIVERED)


def test_a_pacs_that_has_no_room_now_is_tried_again(node: Node, archive: Archive, new_film: NewFilm) -> None:
    film = new_film()
    archive.refuses = [0xA700, 0xA700]
    archive.send(node, film)
    archive.report_of(film)
    assert node.wait_for(film, State.DELIVERED).failures == 2


def test_a_film_is_delivered_once_the_pacs_has_committed_itself(
    node: Node, committing: Archive, new_film: NewFilm
) -> None:
    film = new_film()
    committing.send(node, film)
    committing.wait_until(lambda: committing.asked)
    (request,) = committing.asked
    sr = committing.report_of(film)
    assert sr.SOPInstanceUID in {item.ReferencedSOPInstanceUID for item in request.ReferencedSOPSequence}
    assert node.wait_for(film, State.DELIVERING).state is State.DELIVERING

    committing.commit(node, request, lost=len(request.ReferencedSOPSequence))
    committing.wait_until(lambda: len(committing.asked) == 2)
    assert committing.times[sr.SOPInstanceUID] == 2
    committing.commit(node, committing.asked[1])
    node.wait_for(film, State.DELIVERED)


def test_a_refused_film_has_no_report_says_why_and_can_be_sent_again(
    node: Node, archive: Archive, new_film: NewFilm
) -> None:
    blank = new_film(PixelData=np.full((96, 96), 700, np.uint16).tobytes())
    assert archive.send(node, blank) == 0x0000
    assert node.wait_for(blank, State.REFUSED).reason.startswith("BlankImage: ")
    shown = node.run("--status").stdout
    assert blank.SOPInstanceUID in shown
    assert "BlankImage" in shown
    before = len(node.lines(event="film", state="refused"))
    again = node.run("--again", blank.SOPInstanceUID)
    assert (again.returncode, again.stdout) == (0, "1 films are on their way again\n")
    node.until(lambda: len(node.lines(event="film", state="refused")) == before + 1)
    assert archive.reports_of(blank) == []
    assert node.run("--again", "1.2.3").returncode == 1


def test_a_study_is_summed_up_once_it_is_stable(node: Node, archive: Archive, new_film: NewFilm) -> None:
    one = new_film()
    two = new_film(StudyInstanceUID=one.StudyInstanceUID, PatientID=one.PatientID, PatientName=one.PatientName)
    for film in (one, two):
        archive.send(node, film)
    node.until(lambda: one.StudyInstanceUID in node.queue.summaries(1000))
    study = node.queue.summaries(1000)[one.StudyInstanceUID]
    reports = node.queue.reports_of(one.StudyInstanceUID)
    assert (study.films, study.read) == (2, [0, 1])
    assert study.finding is not None
    assert study.finding.probability == max(report.finding.probability for report in reports if report)
    assert one.StudyInstanceUID in node.run("--status").stdout


def test_no_field_of_a_patient_s_is_in_logs_metrics_or_the_queue(
    node: Node, archive: Archive, gateway: Gateway, new_film: NewFilm
) -> None:
    taken = new_film(**PATIENT)
    other = new_film(**PATIENT, Modality="CT")
    invalid = new_film(**{**PATIENT, "PatientID": PATIENT["PatientID"] + "-2"})
    invalid.add_new("PatientBirthTime", "TM", "not a time of Wilhelmina")
    assert [archive.send(node, film) for film in (taken, other, invalid)] == [0x0000, 0xA900, 0x0000]
    sr = archive.report_of(taken)
    assert sr.PatientName == PATIENT["PatientName"]
    node.wait_for(taken, State.DELIVERED)
    node.wait_for(invalid, State.DELIVERED)
    node.until(lambda: taken.StudyInstanceUID in node.queue.summaries(1000))
    tables = "".join(path.read_bytes().decode("latin-1") for path in node.folder.glob("queue.db*"))
    shown = {
        "log": node.log_text,
        "metrics": node.metrics() + gateway.get("/metrics").text,
        "status": node.run("--status").stdout,
        "queue": tables,
        "gateway's log": gateway.log_text,
    }
    values = {word for value in PATIENT.values() for word in (value, *value.split("^"))} | {"Wilhelmina"}
    assert {(where, value) for where, text in shown.items() for value in values if value in text} == set()
    assert taken.SOPInstanceUID in tables  # that is what is looked through


def test_the_metrics_count_films_by_who_sent_them(node: Node, archive: Archive, new_film: NewFilm) -> None:
    def count(series: str) -> float:
        found = [line for line in node.metrics().splitlines() if line.startswith(f"{series} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    delivered, refused = (f'cxr_pacs_films_total{{ae="PACS",state="{state}"}}' for state in ("delivered", "refused"))
    not_taken = 'cxr_pacs_not_taken_total{ae="PACS",status="A900"}'
    before = count(delivered), count(not_taken)
    film = new_film()
    archive.send(node, film)
    archive.send(node, new_film(Modality="CT"))
    node.until(lambda: count(delivered) == before[0] + 1)
    assert count(not_taken) == before[1] + 1
    assert 1 <= count('cxr_pacs_held_films{ae="PACS",state="refused"}') <= count(refused)  # which counts each time


def test_a_second_node_is_not_started_on_the_same_folder(node: Node) -> None:
    second = node.run("--port", str(free_ports(1)[0]))
    assert second.returncode == 1
    assert second.stderr.startswith("error: another node has ")


def test_a_node_that_is_told_to_end_ends_and_goes_on_when_it_is_started_again(
    node: Node, archive: Archive, new_film: NewFilm
) -> None:
    film = new_film()
    archive.send(node, film)
    assert node.stop() == 0
    node.start()
    archive.report_of(film)
    node.wait_for(film, State.DELIVERED)
    assert len(archive.reports_of(film)) == 1
