"""Round trips with a real PACS: films in, to the node, reports back into their study; by DICOM and by DICOMweb."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from benchmarks.arms.reserved_ports import free_ports
from handlers.report import Report
from pacs.codes import FINDING_CODES
from pacs.film_queue import State
from tests.gateway.conftest import Gateway
from tests.pacs.node.archive import evidence
from tests.pacs.node.conftest import StartNode
from tests.pacs.node.films import REAL, real
from tests.pacs.node.orthanc import INSTALLED, MISSING, NAME, Orthanc
from tests.pacs.node.process import Node

FINDING, PROBABILITY = "121071", "122157"
"""Code values of DCM (PS3.16, annex D)."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not INSTALLED, reason=MISSING)]


@pytest.fixture(params=["DICOM, auto-routing", "DICOMweb"])
def pair(request: pytest.FixtureRequest, start_node: StartNode, tmp_path: Path) -> Iterator[tuple[Orthanc, Node]]:
    """Orthanc and a node that know each other."""
    (port,) = free_ports(1)
    by_web, heatmaps = request.param == "DICOMweb", "Effusion,Nodule"
    orthanc = Orthanc(tmp_path, port, routes=not by_web)
    if by_web:  # whose films are new by their study's date alone: these are there before the node looks
        store_films(orthanc)
        web = {"name": "WEB", "url": f"{orthanc.url}/dicom-web", "since": "1990-01-01"}
        yield orthanc, start_node([], web=[web], heatmaps=heatmaps)
    else:
        yield orthanc, start_node([orthanc.peer], port=port, heatmaps=heatmaps)
    orthanc.kill()


def test_three_chest_films_get_their_reports_and_heatmaps_in_their_study(
    pair: tuple[Orthanc, Node], gateway: Gateway
) -> None:
    orthanc, node = pair
    films = [real(name) for name in REAL]
    store_films(orthanc)
    for film in films:
        node.wait_for(film, State.DELIVERED)

    (study,) = orthanc.find("Study", StudyInstanceUID=films[0].StudyInstanceUID)
    objects = [dcmread(BytesIO(orthanc.file(one))) for one in instances(orthanc, study)]
    reports = [one for one in objects if one.Modality == "SR"]
    captures = [one for one in objects if one.Modality == "OT"]
    assert len(objects) == len(films) + len(reports) + len(captures)
    assert {(one.PatientID, one.PatientName) for one in objects} == {(films[0].PatientID, films[0].PatientName)}
    for film in films:
        answer = Report.model_validate_json(gateway.read(stored(node, film)).content)
        (sr,) = [one for one in reports if film.SOPInstanceUID in evidence(one)]
        scores = {"Finding": answer.finding, **(answer.diseases if answer.routed else {})}
        said = {FINDING_CODES[name].meaning: score.probability for name, score in scores.items()}
        assert probabilities(sr) == pytest.approx(said, abs=1e-4)
        its = [one for one in captures if source(one) == film.SOPInstanceUID]
        assert len(its) == (2 if answer.routed else 0)
    assert len(reports) == len(films)
    assert list(node.queue.counts().values()) == [len(films)]  # what came back to the node is no film of its
    committed = sum(line["films"] for line in node.lines(event="committed", ae=NAME))
    assert committed == (0 if node.queue.mark("WEB") else len(films))


def test_orthanc_knows_the_node_by_c_echo(gateway: Gateway, start_node: StartNode, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    orthanc = Orthanc(tmp_path, port)
    try:
        start_node([orthanc.peer], port=port)
        assert orthanc.post("/modalities/node/echo", {}) == {}
    finally:
        orthanc.kill()


def store_films(orthanc: Orthanc) -> None:
    for name in REAL:
        orthanc.post("/instances", Path(str(get_testdata_file(name, download=False))).read_bytes())


def instances(orthanc: Orthanc, study: str) -> list[str]:
    series = orthanc.get(f"/studies/{study}")["Series"]
    return [instance for one in series for instance in orthanc.get(f"/series/{one}")["Instances"]]


def stored(node: Node, film: Dataset) -> bytes:
    """The film as the node got it."""
    return (node.folder / "films" / f"{film.SOPInstanceUID}.dcm").read_bytes()


def source(capture: Dataset) -> str:
    return str(capture.SourceImageSequence[0].ReferencedSOPInstanceUID)


def probabilities(report: Dataset) -> dict[str, float]:
    """By the meaning of the finding's code, out of each group of measurements (PS3.16, TID 1501)."""
    found: dict[str, float] = {}
    for item in report.get("ContentSequence") or []:
        said = {concept(one): one for one in item.get("ContentSequence") or []}
        if FINDING in said and PROBABILITY in said:
            value = float(said[PROBABILITY].MeasuredValueSequence[0].NumericValue)
            found[said[FINDING].ConceptCodeSequence[0].CodeMeaning] = value
        found |= probabilities(item)
    return found


def concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""
