"""The film of a request: its forms, and its limits while it arrives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.body import Form
from gateway.problems import Problem
from tests.gateway.conftest import Gateway, answer_on
from tests.gateway.stand_in import StandIn, content, report_of

FORM = {"Content-Type": "multipart/form-data; boundary=edge"}


def part(name: str | None, film: bytes, file: str = "") -> bytes:
    disposition = b'form-data; filename="f.png"' if name is None else f'form-data; name="{name}"{file}'.encode()
    return b"--edge\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + film + b"\r\n"


END = b"--edge--\r\n"


@pytest.mark.parametrize("film", [part("data", b"film:0.75"), part("data", b"film:0.75", '; filename="a.png"')])
def test_the_form_field_data_is_the_film(small: Gateway, torchserve: StandIn, film: bytes) -> None:
    assert content(small.read(film + END, headers=FORM)) == report_of(0.75).model_dump()
    assert torchserve.films == [b"film:0.75"]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (part("image", b"film:0.75") + END, "the field 'image'"),
        (part("data", b"film:0.75") + part("image", b"film:0.75") + END, "the field 'image'"),
        (part("data", b"film:0.75") + part("data", b"film:0.25") + END, "'data' twice"),
        (part(None, b"film:0.75") + END, "a field without a name"),
        (part("data", b"film:0.75"), "cut short"),
        (part("data", b"film:0.75")[:-2], "cut short"),
        (b"film:0.75", "cannot be read"),
        (b"--edge\r\nContent-Disposition form-data\r\n\r\nfilm\r\n" + END, "cannot be read"),
        (END, "no field 'data'"),
    ],
)
def test_any_other_form_is_refused_with_what_is_wrong(
    small: Gateway, torchserve: StandIn, form: bytes, said: str
) -> None:
    answer = small.read(form, headers=FORM)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:cxr:MalformedForm")
    assert said in answer.json()["detail"]
    assert torchserve.films == []


@pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'x' * 300}"])
def test_a_form_without_a_good_boundary_is_refused(small: Gateway, torchserve: StandIn, boundary: str) -> None:
    form = (part("data", b"film:0.75") + END).replace(b"edge", boundary.partition("=")[2].encode())
    answer = small.read(form, headers={"Content-Type": f"multipart/form-data{boundary}"})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:cxr:MalformedForm")


@pytest.mark.parametrize("headers", [b"X: " + b"y" * 50_000, b"X: y\r\n" * 1_000], ids=["long", "many"])
def test_a_form_s_headers_are_bounded(small: Gateway, torchserve: StandIn, headers: bytes) -> None:
    answer = small.read(b"--edge\r\n" + headers + b"\r\n\r\nfilm:0.75\r\n" + END, headers=FORM)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:cxr:MalformedForm")
    assert "exceeded" in answer.json()["detail"]
    assert torchserve.films == []


PIECES = st.lists(st.sampled_from([b"\r", b"\n", b"--edge", b"--", b"x", b"\r\n--edg", b"\0"]), max_size=30)


@given(film=PIECES.map(b"".join).filter(lambda film: b"\r\n--edge" not in film), cuts=st.lists(st.integers(0, 300)))
def test_a_film_arrives_whole_however_its_form_is_cut(film: bytes, cuts: list[int]) -> None:
    body, form, at = part("data", film) + END, Form({b"boundary": b"edge"}), 0
    for cut in [*sorted(cuts), len(body)]:
        if body[at:cut]:
            form.write(body[at:cut])
            at = cut
    assert form.film() == film


@given(body=st.binary(max_size=200) | st.builds(lambda junk: part("data", b"x") + junk, st.binary(max_size=60)))
def test_no_form_does_anything_but_give_a_film_or_be_refused(body: bytes) -> None:
    form, refused = Form({b"boundary": b"edge"}), ""
    try:
        form.write(body)
        form.film()
    except Problem as problem:
        refused = problem.type
    assert refused in ("", "MalformedForm")


@pytest.mark.parametrize(("body", "headers"), [(b"", {}), (part("data", b"") + END, FORM)])
def test_no_film_is_an_empty_request(small: Gateway, torchserve: StandIn, body: bytes, headers: dict[str, str]) -> None:
    answer = small.read(body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:cxr:EmptyRequest")


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(small: Gateway, torchserve: StandIn) -> None:
    film = b"film:0.75;".ljust(100_000, b"x")
    assert small.read(film).status_code == 200
    answer = small.read(film + b"x")
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:cxr:BodyTooLarge")
    assert torchserve.films == [film]


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(small: Gateway, torchserve: StandIn) -> None:
    with small.open(b"", "Content-Length: 100001") as connection:
        assert answer_on(connection)[0] == 413


@pytest.mark.parametrize("headers", [{}, FORM])
def test_a_body_of_unknown_length_is_refused_at_the_first_byte_over(
    small: Gateway, torchserve: StandIn, headers: dict[str, str]
) -> None:
    sent = part("data", b"x" * 100_000) if headers else b"x" * 100_001
    chunk = b"%x\r\n%b\r\n" % (len(sent), sent)  # and no end
    lines = ["Transfer-Encoding: chunked", *(f"{name}: {value}" for name, value in headers.items())]
    with small.open(chunk, *lines) as connection:
        status, problem = answer_on(connection)
    assert (status, b"BodyTooLarge" in problem) == (413, True)
    assert torchserve.films == []


@pytest.mark.parametrize("type", ["application/json", "text/plain", "text/html", "video/mp4", "multipart/mixed", "x"])
def test_other_content_types_are_refused(small: Gateway, torchserve: StandIn, type: str) -> None:
    answer = small.read(b"film:0.75", headers={"Content-Type": type})
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:cxr:UnsupportedMediaType")
    assert torchserve.films == []


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
def test_a_compressed_body_is_refused(small: Gateway, torchserve: StandIn, encoding: str) -> None:
    assert small.read(b"film:0.75", headers={"Content-Encoding": encoding}).status_code == 415
    assert small.read(b"film:0.75", headers={"Content-Encoding": "identity"}).status_code == 200
