"""Which files are films, and what their rows are called."""

from pathlib import Path

import pytest

from client.film_list import FilmListError, find_films, listed_films
from workflows.files.text_files import DataError

PNG, JPEG, DICOM = b"\x89PNG\r\n\x1a\n rest", b"\xff\xd8\xff rest", b"\0" * 128 + b"DICM rest"


def put(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def names(folder: Path) -> list[str]:
    return [film.name for film in find_films(folder)[0]]


def test_a_file_without_a_films_suffix_is_told_by_its_content(tmp_path: Path) -> None:
    put(tmp_path, a__IM0001=DICOM, a__IM0002=PNG, a__scan=JPEG, a__letter=b"Dear colleague", b__empty=b"")
    (tmp_path / "b" / "1.2.840.113").write_bytes(DICOM)
    films, others = find_films(tmp_path)
    assert [(film.name, film.path) for film in films] == [
        (name, str(tmp_path / folder / name))
        for folder, name in (("a", "IM0001"), ("a", "IM0002"), ("a", "scan"), ("b", "1.2.840.113"))
    ]
    assert others == 2


def test_a_file_that_is_called_a_film_is_one_whatever_it_holds(tmp_path: Path) -> None:
    for name in ("damaged.png", "CUT.JPG", "empty.dcm"):
        (tmp_path / name).write_bytes(b"")
    assert names(tmp_path) == ["CUT.JPG", "damaged.png", "empty.dcm"]


def test_indices_and_hidden_files_are_no_films(tmp_path: Path) -> None:
    put(tmp_path, DICOMDIR=DICOM, film=PNG)
    for hidden in (".hidden.png", "._film.png", ".trash/old.png"):
        put(tmp_path, **{hidden.replace("/", "__"): PNG})
    assert names(tmp_path) == ["film"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "disk", film=PNG)
    put(tmp_path / "data", own=PNG)
    (tmp_path / "data" / "images_001").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "up").symlink_to(tmp_path / "data")
    assert names(tmp_path / "data") == ["own", "film"]


def test_films_that_share_a_file_name_are_called_by_their_paths(tmp_path: Path) -> None:
    put(tmp_path, anna__1=PNG, bert__2=PNG)
    assert names(tmp_path) == ["1", "2"]
    put(tmp_path, bert__1=PNG)
    assert names(tmp_path) == ["anna/1", "bert/1", "bert/2"]


def test_a_list_takes_paths_in_the_folder_absolute_ones_and_nih_s_bare_names(tmp_path: Path) -> None:
    folder = put(tmp_path / "data", images_001__images__a=PNG, images_002__images__b=PNG, c=PNG, d=PNG)
    put(tmp_path, elsewhere=PNG)
    listing = tmp_path / "list.txt"
    listing.write_text(f"b\nimages_001/images/a\n\nc\n{tmp_path}/elsewhere\n")
    films = listed_films(folder, listing)
    assert [film.name for film in films] == ["b", "a", "c", "elsewhere"]
    assert [Path(film.path).read_bytes() for film in films] == [PNG] * 4
    put(tmp_path, c=PNG)
    listing.write_text(f"c\nb\n{tmp_path}/c\n")
    assert [film.name for film in listed_films(folder, listing)] == ["c", "images_002/images/b", f"{tmp_path}/c"]


def test_a_list_that_names_no_one_film_is_refused(tmp_path: Path) -> None:
    put(tmp_path, a__one=PNG, b__one=PNG, two=PNG)
    listing = tmp_path / "list.txt"
    for text, why in (
        ("", "names no film"),
        ("three\ntwo\nfour\n", r"2 films are not there, the first: \['three', 'four'\]"),
        ("one\n", r"1 names stand for several files under .*\['one'\]"),
        ("two\n./two\n", r"1 films are listed twice, the first: \['.*/two'\]"),
    ):
        listing.write_text(text)
        with pytest.raises(DataError, match=why):
            listed_films(tmp_path, listing)


def test_a_folder_that_cannot_be_scored_is_refused(tmp_path: Path) -> None:
    put(tmp_path, letter=b"Dear colleague")
    with pytest.raises(FilmListError, match="no PNG, JPEG or DICOM file among 1 files"):
        find_films(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_films(tmp_path / "nowhere")
    (tmp_path / "a\nb.png").write_bytes(PNG)
    (tmp_path / "c\udcff.png").write_bytes(PNG)
    with pytest.raises(FilmListError, match="2 names hold a line break, or are no UTF-8"):
        find_films(tmp_path)


def test_a_list_finds_films_by_as_much_of_their_paths_as_both_sides_have(tmp_path: Path) -> None:
    folder = put(tmp_path / "data", **{"images_001__a.png": PNG, "images_002__a.png": PNG, "images_002__b.PNG": PNG})
    listing = tmp_path / "list.txt"
    for line, found in (
        ("images_001\\a.png", "images_001/a.png"),
        ("  images_001/a.PNG\t", "images_001/a.png"),
        ("C:\\nih\\data\\images_002\\a.png", "images_002/a.png"),
        ("/mnt/other/images_002/a.png", "images_002/a.png"),
        ("b.png", "images_002/b.PNG"),
        ('"b.png"', "images_002/b.PNG"),
    ):
        listing.write_text(f"{line}\n", encoding="utf-16")
        assert [film.path for film in listed_films(folder, listing)] == [str(folder / found)], line


def test_a_path_is_never_taken_for_another_folders_film(tmp_path: Path) -> None:
    folder = put(tmp_path / "data", **{"bert__1.png": PNG, "2.png": PNG})
    listing = tmp_path / "list.txt"
    for line in ("anna/1.png", "anna/2.png", "/mnt/anna/1.png", "D:\\anna\\1.png", "1.PNG/2.png"):
        listing.write_text(f"{line}\n")
        with pytest.raises(FilmListError, match=r"1 films are not there"):
            listed_films(folder, listing)


def test_a_list_that_is_no_text_is_refused_by_its_row(tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_bytes(PNG + b"\0")
    with pytest.raises(DataError, match=r"list\.txt row 2: no text"):
        listed_films(tmp_path, listing)
    with pytest.raises(DataError, match="is a folder, where a file is wanted"):
        listed_films(tmp_path, tmp_path)
