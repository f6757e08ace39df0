"""Why a file is not read as a film, and the limits that every film keeps to."""

MAX_BYTES = 64 * 2**20
"""Of a file; ``max_request_size`` of ``config.properties`` is the same."""
MIN_SIDE, MAX_SIDE = 32, 10_000
"""px. Below, nothing can be seen; above lies no detector and no digitised film."""
MAX_PIXELS = 40_000_000
"""Twice the largest digitised film (4096 x 5120 px): 80 MB at 16 bit."""

CODES = {
    "EmptyRequest": 400,
    "UnreadableImage": 400,
    "TruncatedImage": 400,
    "ImageTooLarge": 413,
    "UnsupportedTransferSyntax": 415,
    "NotARadiograph": 422,
    "NotReportable": 422,
    "BlankImage": 422,
    "DecodeTimeout": 422,
}
"""Every reason, and what HTTP would call it."""


class RefusedFilm(Exception):
    """A file that is not read as a film.

    Attributes:
        type: a key of ``CODES``, stable.
        message: for a person; never a value of a patient's.
        code: of ``CODES``.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type, self.message, self.code = type, message, CODES[type]


def check_size(rows: int, columns: int) -> None:
    """Called with what a file's header says, before its pixels are touched.

    Raises:
        RefusedFilm: ImageTooLarge, or UnreadableImage for a film of under 32 px.
    """
    if min(rows, columns) < MIN_SIDE:
        raise RefusedFilm("UnreadableImage", f"{columns} x {rows} px: a film has at least {MIN_SIDE} px a side")
    if max(rows, columns) > MAX_SIDE or rows * columns > MAX_PIXELS:
        limit = f"{MAX_SIDE} px a side and {MAX_PIXELS // 10**6} million in all"
        raise RefusedFilm("ImageTooLarge", f"{columns} x {rows} px: a film has at most {limit}")


def check_frames(number: int) -> None:
    """Raises RefusedFilm (NotARadiograph) where a file holds several pictures."""
    if number > 1:
        raise RefusedFilm("NotARadiograph", f"{number} frames: a radiograph has one")
