"""LitServe as an arm: it takes films as a form's file."""

from collections.abc import Sequence

from benchmarks.arms.arm import Peer
from benchmarks.load import Target

BOUNDARY = "film-boundary-6d1f"


class LitServe(Peer):
    def __init__(self) -> None:
        super().__init__("litserve", "benchmarks.arms.litserve_pipeline", ("litserve",))

    def target(self, films: Sequence[bytes]) -> Target:
        plain = super().target(films)
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return Target(plain.host, plain.port, plain.path, headers, [as_form(film) for film in films])


def as_form(film: bytes) -> bytes:
    """The film as a form's one file, ``film`` (RFC 7578)."""
    disposition = 'Content-Disposition: form-data; name="film"; filename="film"'
    head = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n"
    return head.encode() + film + f"\r\n--{BOUNDARY}--\r\n".encode()
