"""Films through a live TorchServe: the answers, the route, the batches."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom.data import get_testdata_file

from handlers.cascade import Cascade
from handlers.decoding.image import read_film, to_pixels
from handlers.findings import FINDINGS
from handlers.networks.vit import Vit
from handlers.report import Refusal, Report
from tests.live.footprint import WORKERS, processes
from workflows.register import predict
from workflows.server import Server

NIH = Path(__file__).parents[3] / "shared" / "nih-1024"
COUNTERS = ("cxr_binary_films", "cxr_films_routed", "cxr_films_skipped", "cxr_disease_films")


def difference(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0) for name, value in after.items()}


def read_together(server: Server, films: list[bytes], clients: int = 32) -> list[Report | Refusal]:
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda film: predict(server, film), films))


@contextmanager
def paused(server: Server, worker: str) -> Iterator[None]:
    """A worker that takes nothing meanwhile."""
    process = processes(server)[worker][0]
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def waiting(server: Server, node: str) -> int:
    """Films in the queue of a node."""
    described = server.call("GET", f"{server.management}/models/chest_xray__{node}", "management").json()
    return int(described[0]["jobQueueStatus"]["pendingRequests"])


def test_served_probabilities_are_those_of_the_checkpoints(server: Server, run: Path, film_paths: list[Path]) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    threshold = evaluation["thresholds"]["Finding"]
    cascade = Cascade.of_evaluation(evaluation)
    binary, disease = (Vit(run / stage / "checkpoint", torch.device("cpu")) for stage in ("binary", "disease"))
    routes = []
    for film in film_paths[:20]:
        data = film.read_bytes()
        pixels = to_pixels(read_film(data), binary.image_size)[None]
        first = binary.logits(pixels)[:, 0]
        finding = float(cascade.finding(first)[0])
        report = predict(server, data)
        assert isinstance(report, Report)
        assert report.finding.probability == pytest.approx(finding, abs=1e-3)
        assert report.finding.threshold == threshold
        expected = cascade.diseases(first, disease.logits(pixels))[0] if report.routed else np.zeros(14)
        assert [report.diseases[name].probability for name in FINDINGS] == pytest.approx(expected.tolist(), abs=1e-3)
        routes.append(report.routed)
    assert 0 < sum(routes) < 20


def test_the_disease_vit_sees_the_routed_films_and_no_other(server, film_paths, counters, wait_for) -> None:
    # A worker reports its films in turn: once this one is counted as refused, so are all before it.
    refused = counters().get("cxr_films_refused", 0)
    predict(server, b"no film")
    before, films = wait_for({"cxr_films_refused": refused + 1}), film_paths[:40]
    reports = [predict(server, film.read_bytes()) for film in films]
    routed = sum(report.routed for report in reports)
    assert 0 < routed < len(films)
    expected = dict(zip(COUNTERS, (len(films), routed, len(films) - routed, routed), strict=True))
    seen = difference(wait_for({name: before.get(name, 0) + expected[name] for name in COUNTERS}), before)
    assert {name: seen[name] for name in COUNTERS} == expected
    for report in reports:
        assert report.routed == report.finding.present
        if not report.routed:
            assert all(score.probability == 0.0 and not score.present for score in report.diseases.values())


def test_films_that_wait_for_a_node_are_read_in_batches_in_both(server, film_paths, counters, wait_for) -> None:
    films = [film.read_bytes() for film in film_paths[:64]]
    before = counters()
    with ThreadPoolExecutor(len(films)) as clients:
        with paused(server, WORKERS[0]):
            sent = [clients.submit(predict, server, film) for film in films]
            while waiting(server, "binary") < len(films) / 2:
                pass
        reports = [one.result() for one in sent]
    routed = sum(report.routed for report in reports)
    seen = wait_for(
        {
            "cxr_binary_films": before["cxr_binary_films"] + len(films),
            "cxr_disease_films": before["cxr_disease_films"] + routed,
        }
    )
    seen = difference(seen, before)
    assert seen["cxr_binary_films"] / seen["cxr_binary_batches"] > 1.5
    assert seen["cxr_disease_films"] / seen["cxr_disease_batches"] > 1.0
    alone = [predict(server, film) for film in films[:10]]
    for together, single in zip(reports, alone, strict=False):
        assert together.finding.probability == pytest.approx(single.finding.probability, abs=1e-4)
        assert together.routed == single.routed


def test_refused_films_in_a_batch_leave_every_other_its_report(server: Server, film_paths: list[Path]) -> None:
    good = [film.read_bytes() for film in film_paths[:60]]
    bad = {b"a text": "UnreadableImage", good[0][:-3000]: "TruncatedImage", b"": "EmptyRequest"}
    mixed = [film for at, one in enumerate(good) for film in ((one, [*bad][at % 3]) if at % 5 == 0 else (one,))]
    alone = {film: predict(server, film) for film in good}
    for film, answer in zip(mixed, read_together(server, mixed), strict=True):
        if film in bad:
            assert isinstance(answer, Refusal)
            assert (answer.error.code, answer.error.type) == (400, bad[film])
        else:
            assert isinstance(answer, Report)
            assert answer.routed == alone[film].routed
            assert answer.finding.probability == pytest.approx(alone[film].finding.probability, abs=1e-4)


def test_a_form_field_is_read_like_a_body(server: Server, film_paths: list[Path]) -> None:
    film = film_paths[0].read_bytes()
    url = f"{server.inference}/wfpredict/chest_xray"
    form = server.call("POST", url, "inference", files={"data": ("film.png", film, "image/png")})
    assert form.json() == predict(server, film).model_dump()
    wrong = server.call("POST", url, "inference", files={"image": ("film.png", film, "image/png")})
    assert wrong.json()["error"]["type"] == "EmptyRequest"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "image/png"])
def test_the_content_type_does_not_change_what_is_read(server: Server, film_paths: list[Path], kind: str) -> None:
    url = f"{server.inference}/wfpredict/chest_xray"
    film = film_paths[0].read_bytes()
    with_type = server.call("POST", url, "inference", content=film, headers={"Content-Type": kind})
    assert with_type.json() == predict(server, film).model_dump()
    text = server.call("POST", url, "inference", content=b'{"film": 1}', headers={"Content-Type": kind})
    assert text.json()["error"]["type"] == "UnreadableImage"


def test_a_real_radiograph_is_read_as_dicom(server: Server) -> None:
    film = Path(str(get_testdata_file("RG1_UNCR.dcm"))).read_bytes()
    assert len(film) > 6_553_500  # TorchServe's default limit
    report = predict(server, film)
    assert isinstance(report, Report)
    assert list(report.diseases) == list(FINDINGS)


def test_a_compressed_radiograph_is_read_like_the_same_film_uncompressed(server: Server) -> None:
    """Its decoder is a child of TorchServe's worker, and where it dies, the next film has another."""
    film, same = (Path(str(get_testdata_file(name))).read_bytes() for name in ("RG1_J2KR.dcm", "RG1_UNCR.dcm"))
    assert predict(server, film) == predict(server, same)
    _, *decoders = processes(server)["binary worker"]
    assert decoders
    for decoder in decoders:
        assert "handlers.decoding.frame_codecs:decode" in decoder.cmdline()
        decoder.kill()
    assert predict(server, film) == predict(server, same)


@pytest.mark.skipif(not NIH.exists(), reason="the NIH films of ../shared/nih-1024 are not here")
def test_every_full_size_nih_film_is_read(server: Server) -> None:
    films = [path.read_bytes() for path in sorted(NIH.glob("images_*/images/*.png"))]
    assert len(films) == 88
    assert all(isinstance(report, Report) for report in read_together(server, films))
