"""The one way to read the text lists and tables that people bring, whatever program wrote them.

A file is UTF-8, or what its byte order mark says; bytes that are no UTF-8 are taken for Windows-1252, of which the log
is told. A ``.gz`` is unpacked. Line ends are those of Unix, DOS or the old Macintosh; cells stand between commas,
semicolons or tabs. Rows are counted as an editor counts lines, so that the header is row 1.
"""

import codecs
import csv
import gzip
import io
import json
import logging
import posixpath
import re
import unicodedata
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflows.command_line import Fault

HEADER = 1 << 16
"""Bytes that hold a table's first line."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LINE_END = re.compile(r"\r\n|\r|\n")
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
DELIMITERS = (",", ";", "\t")
BRACKETS = re.compile(r"\[.*?\]|\".*?\"")
"""A header's parts whose commas are no delimiters, whatever the delimiter is."""
INVISIBLE = str.maketrans("", "", "\ufeff\u200b")
"""Byte order marks of files that were put together, and blanks without a width: no part of any name."""
FILM_SUFFIX = re.compile(r"\.(png|jpe?g|dcm|dicom)$", re.IGNORECASE)

logger = logging.getLogger(__name__)


class DataError(Fault, ValueError):
    """A list, a table or a folder of films that cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Table:
    """A table's cells, without the blanks around them.

    Attributes:
        path: the file.
        columns: C names; some may be empty, and no other stands twice.
        rows: [N][C or more]; a row that is shorter in the file ends with empty cells.
        numbers: [N] where each row begins in the file.
    """

    path: Path
    columns: list[str]
    rows: list[list[str]]
    numbers: list[int]


def read_text(path: Path) -> str:
    r"""The file's text; lines end with ``\n``.

    Raises:
        DataError: a folder, no permission, or bytes that are no text.
        FileNotFoundError: no such file.
    """
    data = _read_bytes(path)
    mark, encoding = _encoding(data)
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as fault:
        row = _row(data[len(mark) :][: fault.start].decode(encoding, "replace"))
        if mark:
            raise DataError(f"{path} row {row}: no {encoding.upper()}, as the file's first bytes announce") from fault
        text = _one_byte_a_letter(path, data, row)
    if found := CONTROL.search(text):
        raise DataError(
            f"{path} row {_row(text[: found.start()])}: no text, for it holds the byte 0x{ord(found[0]):02x}. "
            "A list or a table is wanted, as UTF-8, or as UTF-16 with its byte order mark"
        )
    return LINE_END.sub("\n", text).translate(INVISIBLE)


def read_list(path: Path) -> list[str]:
    """What a list names, one a line, without the blanks and quotes around it; empty lines are left out.

    Raises:
        DataError: no text, or a list that names nothing.
        FileNotFoundError: no such file.
    """
    names = [name for line in read_text(path).split("\n") if (name := line.strip().strip('"').strip())]
    if not names:
        raise DataError(f"{path}: the list names no film")
    return names


def read_table(path: Path) -> Table:
    """A CSV file with a header; rows of empty cells are left out.

    Raises:
        DataError: no text, no header, a column's name twice, a quote that is not closed, or a row of more cells than
            the header has or that is cut off.
        FileNotFoundError: no such file.
    """
    text = read_text(path)
    first = next((line for line in text.split("\n") if line.strip()), None)
    if first is None:
        raise DataError(f"{path}: not a CSV table, for the file is empty")
    numbered = _records(path, text, max(DELIMITERS, key=BRACKETS.sub("", first).count))
    columns = numbered[0][1]
    _refuse_same_names(path, columns)
    # NIH's ``Width,Height`` is one name in quotes and may be two cells.
    most = len(columns) + sum(name.count(delimiter) for name in columns for delimiter in DELIMITERS)
    numbers, rows = [], []
    for number, cells in numbered[1:]:
        numbers.append(number)
        rows.append(_fitted(f"{path} row {number}", cells, len(columns), most))
    _refuse_cut_off(path, text, numbered)
    return Table(path, columns, rows, numbers)


def read_header(path: Path) -> list[str]:
    """The columns of a CSV file by its first bytes alone; none where it cannot be read, or is no text."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(HEADER)
    except (OSError, EOFError, zlib.error):
        return []
    mark, encoding = _encoding(data)
    lines = data[len(mark) :].decode(encoding, "ignore").translate(INVISIBLE).splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(DELIMITERS, key=BRACKETS.sub("", first).count)
    return [cell.strip(' "') for cell in first.split(delimiter)]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: no text, no JSON, or no object; the message names the row.
        FileNotFoundError: no such file.
    """
    try:
        document = json.loads(read_text(path))
    except json.JSONDecodeError as fault:
        raise DataError(f"{path} row {fault.lineno}: not a JSON document ({fault.msg})") from fault
    if not isinstance(document, dict):
        raise DataError(f"{path}: not a JSON object {{...}}")
    return document


def film_path(text: str) -> str:
    """A film's path as a list or a table gives it, in one spelling.

    Blanks around it are no part of it, folders are parted by ``/``, and ``.PNG`` is ``.png``.
    """
    path = unicodedata.normalize("NFC", text.translate(INVISIBLE).strip()).replace("\\", "/")
    path = posixpath.normpath(path) if path else ""
    return FILM_SUFFIX.sub(lambda suffix: suffix[0].lower(), path)


def film_name(text: str) -> str:
    """The same without its folders: what tells films apart in NIH's lists and tables."""
    return posixpath.basename(film_path(text))


def _encoding(data: bytes) -> tuple[bytes, str]:
    return next(((mark, name) for mark, name in MARKS if data.startswith(mark)), (b"", "utf-8"))


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as fault:
        raise DataError(f"{path}: not a whole gzip file ({fault}): fetch it anew") from fault
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there") from None
    except IsADirectoryError as fault:
        raise DataError(f"{path} is a folder, where a file is wanted") from fault
    except PermissionError as fault:
        raise DataError(f"{path}: no permission to read it") from fault


def _row(before: str) -> int:
    return 1 + len(LINE_END.findall(before))


def _one_byte_a_letter(path: Path, data: bytes, row: int) -> str:
    """Latin-1 and Windows-1252 agree on all letters; the second has no letter for five bytes."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as fault:
        raise DataError(f"{path} row {row}: no text, neither UTF-8 nor Windows-1252. Save it as UTF-8") from fault
    if not CONTROL.search(text):
        logger.warning("%s row %d is no UTF-8, and is read as Windows-1252", path, row)
    return text


def _records(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """The rows that hold anything, the header first, each with its number."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True, skipinitialspace=True)
    records: list[tuple[int, list[str]]] = []
    number = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as fault:
            raise DataError(f"{path} row {number}: not a CSV table ({fault}): is a quote not closed?") from fault
        if cells is None:
            return records
        if any(cell.strip() for cell in cells):
            header = records[0][1] if records else cells
            # Two stray quotes make one cell of what stands between them, and the row still has the right width.
            if any("\n" in cell and cell.count(delimiter) >= _width(header) - 1 for cell in cells):
                raise DataError(f"{path} row {number}: a quote is not closed: its cell goes to row {reader.line_num}")
            records.append((number, [cell.strip() for cell in cells]))
        number = reader.line_num + 1


def _refuse_same_names(path: Path, columns: list[str]) -> None:
    twice = [name for name, times in Counter(columns).items() if name and times > 1]
    if twice:
        raise DataError(f"{path} row 1: the columns {twice} stand twice in the header: rename all but one of each")


def _fitted(where: str, cells: list[str], columns: int, most: int) -> list[str]:
    """As many cells as there are columns, or up to ``most``."""
    while len(cells) > columns and not cells[-1]:
        cells = cells[:-1]
    if len(cells) > most:
        raise DataError(
            f"{where}: {len(cells)} cells, where the header has {columns}. Is there a comma too many, or a cell that "
            "needs quotes?"
        )
    return cells + [""] * (columns - len(cells))


def _width(columns: list[str]) -> int:
    """Without the empty names at the end of NIH's headers."""
    return max((place for place, name in enumerate(columns, 1) if name), default=0)


def _refuse_cut_off(path: Path, text: str, numbered: list[tuple[int, list[str]]]) -> None:
    """Raises DataError where the file ends within its last row: the last cell may be half of what it was."""
    number, cells = numbered[-1]
    width = _width(numbered[0][1])
    if len(numbered) > 1 and not text.endswith("\n") and len(cells) < width:
        raise DataError(f"{path} row {number}: the file ends within this row: {len(cells)} cells of {width}")
