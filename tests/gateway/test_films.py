"""A film as the models get it."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from handlers.decoding.image import read_film
from tests.gateway.conftest import Gateway
from tests.gateway.stand_in import PATIENCE


def show(gateway: Gateway, film: bytes, **request) -> httpx.Response:
    headers = {"Authorization": f"Bearer {gateway.key}", **request.pop("headers", {})}
    return httpx.post(f"{gateway.url}/v1/films", content=film, headers=headers, timeout=PATIENCE, **request)


def png(film: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(film).save(file, "PNG")
    return file.getvalue()


def decoders(gateway: Gateway) -> list[psutil.Process]:
    children = psutil.Process(gateway.process.pid).children()
    return [one for one in children if "gateway.render_pool:draw" in one.cmdline()]


@pytest.fixture
def small_film() -> bytes:
    return png(np.random.default_rng(1).integers(0, 256, (70, 50), dtype=np.uint8))


def test_a_dicom_is_shown_at_full_resolution_as_the_models_get_it(roomy: Gateway) -> None:
    film = Path(str(get_testdata_file("RG1_UNCR.dcm"))).read_bytes()
    response = show(roomy, film)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert response.headers["cache-control"] == "no-store"
    picture = Image.open(BytesIO(response.content))
    assert (picture.mode, picture.size) == ("L", (1841, 1955))
    np.testing.assert_array_equal(np.asarray(picture), read_film(film))


def test_a_16_bit_png_is_shown_in_8_bit(roomy: Gateway) -> None:
    film = png(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16))
    picture = Image.open(BytesIO(show(roomy, film).content))
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), read_film(film))


def test_a_refused_film_has_the_cascade_s_reason(roomy: Gateway) -> None:
    response = show(roomy, b"Dear colleague")
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert response.json()["type"] == "urn:cxr:UnreadableImage"
    assert response.json()["detail"] == "not a PNG, JPEG or DICOM file, but text"


def test_a_blank_film_is_refused_and_not_shown(roomy: Gateway) -> None:
    response = show(roomy, png(np.full((64, 64), 90, np.uint8)))
    assert (response.status_code, response.json()["type"]) == (422, "urn:cxr:BlankImage")


def test_the_limits_and_the_key_are_those_of_a_report(small: Gateway, small_film: bytes) -> None:
    assert show(small, bytes(100_001)).json()["type"] == "urn:cxr:BodyTooLarge"
    assert show(small, b"").json()["type"] == "urn:cxr:EmptyRequest"
    assert show(small, small_film, params={"size": 3}).json()["type"] == "urn:cxr:UnknownParameter"
    assert show(small, small_film, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert show(small, small_film).status_code == 200


def test_a_decoder_that_dies_is_replaced(roomy: Gateway, small_film: bytes) -> None:
    assert show(roomy, small_film).status_code == 200
    for process in decoders(roomy):
        os.kill(process.pid, signal.SIGKILL)
    assert [show(roomy, small_film).status_code for _ in range(4)][-1] == 200


def test_a_compressed_film_is_shown_while_another_breaks_its_decoder(roomy: Gateway) -> None:
    film = Path(str(get_testdata_file("RG1_J2KR.dcm"))).read_bytes()
    broken = film[:100_000] + bytes(1000) + film[101_000:]
    with ThreadPoolExecutor(4) as pool:
        shown = list(pool.map(lambda data: show(roomy, data), [film, broken, film, broken[:-3000]]))
    for response in (shown[0], shown[2]):
        np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(response.content))), read_film(film))
    assert shown[3].json()["type"] in ("urn:cxr:TruncatedImage", "urn:cxr:UnreadableImage")


def test_decoders_end_with_the_gateway(start_gateway, small_film: bytes) -> None:
    gateway = start_gateway()
    assert show(gateway, small_film).status_code == 200
    started = decoders(gateway)
    assert started
    gateway.process.kill()
    assert psutil.wait_procs(started, timeout=PATIENCE)[1] == []
