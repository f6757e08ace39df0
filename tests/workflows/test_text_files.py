"""Lists and tables say the same whatever program wrote them, and a damaged one is refused by its row."""

from pathlib import Path

import pytest

from workflows.files.text_files import DataError, film_name, film_path, read_list, read_table, read_text

LIST = "a.png\nb.png\nc.png\n"
TABLE = "Image Index,Finding Labels,Patient ID\na.png,Mass|Edema,1\nb.png,No Finding,2\n"
CELLS = [["a.png", "Mass|Edema", "1"], ["b.png", "No Finding", "2"]]
WRITTEN = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with its mark": lambda text: text.encode("utf-8-sig"),
    "two files with marks, one after the other": lambda text: text.replace("\n", "\n\ufeff", 1).encode("utf-8-sig"),
    "utf-16, little end first": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "utf-16, big end first": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
    "dos lines": lambda text: text.replace("\n", "\r\n").encode(),
    "old macintosh lines": lambda text: text.replace("\n", "\r").encode(),
    "dos lines in utf-16": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "no line end at the end": lambda text: text.rstrip("\n").encode(),
    "empty lines": lambda text: text.replace("\n", "\n\n \n").encode(),
    "blanks around everything": lambda text: text.replace("\n", " \t\n  ").replace(",", "\u00a0, ").encode(),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.txt"


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
def test_a_list_is_the_same_however_it_is_written(path: Path, write) -> None:
    path.write_bytes(write(LIST))
    assert read_list(path) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
def test_a_table_is_the_same_however_it_is_written(path: Path, write) -> None:
    path.write_bytes(write(TABLE))
    table = read_table(path)
    assert table.columns == ["Image Index", "Finding Labels", "Patient ID"]
    assert table.rows == CELLS


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_and_tabs_are_seen(path: Path, delimiter: str) -> None:
    path.write_text(TABLE.replace(",", delimiter))
    assert read_table(path).rows == CELLS
    header = "Image Index,Patient ID,Bbox [x,y,w,h]".replace(",", delimiter, 2)
    path.write_text(f"{header}\na.png{delimiter}1{delimiter}2\n")
    assert read_table(path).columns == ["Image Index", "Patient ID", "Bbox [x,y,w,h]"]


def test_letters_of_windows_are_read_and_the_log_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes("a.png\nMüller.png\n".encode("cp1252"))
    assert read_list(path) == ["a.png", "Müller.png"]
    assert "row 2 is no UTF-8, and is read as Windows-1252" in caplog.text
    path.write_bytes(b"a.png\nb.png\n\x81.png\n")
    with pytest.raises(DataError, match=r"row 3: no text, neither UTF-8 nor Windows-1252"):
        read_list(path)


def test_quotes_hold_delimiters_lines_and_quotes(path: Path) -> None:
    path.write_text('"Image Index","note",  "Patient ID"\n"a.png","first\nsecond, ""third""", "1"\nb.png,,2\n')
    table = read_table(path)
    assert table.rows == [["a.png", 'first\nsecond, "third"', "1"], ["b.png", "", "2"]]
    assert table.numbers == [2, 4]  # as an editor counts


def test_nih_s_headers_with_commas_inside_names_are_read(path: Path) -> None:
    path.write_text('Image Index,"Original[Width,Height]",Bbox [x,y],,\na.png,10,20,1,2\nb.png,10,20,1,2,,,\n')
    table = read_table(path)
    assert table.columns == ["Image Index", "Original[Width,Height]", "Bbox [x", "y]", "", ""]
    assert [row[:5] for row in table.rows] == [["a.png", "10", "20", "1", "2"], ["b.png", "10", "20", "1", "2"]]


def test_cells_that_a_spreadsheet_left_out_at_the_end_are_empty(path: Path) -> None:
    path.write_text("Image Index,Mass,error\na.png,0.1\nb.png,0.2,\nc.png,,late\n")
    assert read_table(path).rows == [["a.png", "0.1", ""], ["b.png", "0.2", ""], ["c.png", "", "late"]]


ROWS = "Image Index,Labels,Patient\na.png,Mass,1\n"
DAMAGED = {
    "empty": (b"", "the file is empty"),
    "blank": (b" \n\r\n\t\n", "the file is empty"),
    "only a mark": (b"\xff\xfe", "the file is empty"),
    "a PNG": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "row 2: no text"),
    "a zipped workbook": (b"PK\x03\x04\x14\x00\x06\x00", "row 1: no text, for it holds the byte 0x03"),
    "utf-16 without its mark": (ROWS.encode("utf-16-le"), "row 1: no text, .* UTF-16 with its byte order mark"),
    "utf-16, cut off within a letter": (b"\xff\xfe" + ROWS.encode("utf-16-le") + b"x", "row 3: no UTF-16-LE"),
    "a quote that is never closed": (ROWS.encode() + b'b.png,"Mass,2\nc.png,Mass,3\n', "row 3: not a CSV table"),
    "a quote and another far below": (
        ROWS.encode() + b'b.png,"Mass,2\nc.png,Mass,3\nd.png,Mass",4\ne.png,Mass,5\n',
        "row 3: a quote is not closed: its cell goes to row 5",
    ),
    "a quote within a cell in quotes": (ROWS.encode() + b'b.png,"Mass"s",2\n', "row 3: not a CSV table"),
    "an open quote in the header": (b'Image Index,"Labels,Patient\na.png,Mass,1\n', "row 1: not a CSV table"),
    "an open quote before a long table": (
        ROWS.encode() + b'b.png,"Mass,2\n' + b"c.png,Mass,3\n" * 20_000,
        "row 3: not a CSV table",
    ),
    "a comma too many": (ROWS.encode() + b"b.png,Mass,Edema,2\n", "row 3: 4 cells, where the header has 3"),
    "the same name twice": (b"Image Index,Mass, Mass\na.png,1,2\n", r"row 1: the columns \['Mass'\] stand twice"),
    "cut off within a row": (ROWS.encode() + b"b.png,Ma", "row 3: the file ends within this row: 2 cells of 3"),
}


@pytest.mark.parametrize(("data", "why"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_table_is_refused_by_file_and_row(path: Path, data: bytes, why: str) -> None:
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"file\.txt:? ?{why}" if why.startswith("row") else why) as refusal:
        read_table(path)
    assert str(path) in str(refusal.value)


def test_what_is_no_file_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path} is a folder, where a file is wanted"):
        read_text(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt is not there"):
        read_text(tmp_path / "nowhere.txt")


def test_a_file_without_permission_is_refused_by_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", forbidden)  # root may read everything
    with pytest.raises(DataError, match=r"file\.txt: no permission to read it"):
        read_text(path)


@pytest.mark.parametrize(
    "text",
    [
        "00000001_000.png",
        "  00000001_000.png\t",
        "00000001_000.PNG",
        "images_001/images/00000001_000.png",
        "images_001\\images\\00000001_000.Png",
        "C:\\nih\\images\\00000001_000.png",
        "./00000001_000.png",
        "\ufeff00000001_000.png",
    ],
)
def test_a_film_has_one_name_however_it_is_spelt(text: str) -> None:
    assert film_name(text) == "00000001_000.png"


def test_only_blanks_folders_and_capitals_of_the_suffix_are_spelling() -> None:
    assert film_name("Scan B.JPEG") == "Scan B.jpeg"
    assert film_name("1.2.840.113.AB") == "1.2.840.113.AB"
    assert film_path("anna\\\\1.png") == "anna/1.png"
    assert (film_name(""), film_name("Mu\u0308ller.png")) == ("", "Müller.png")
