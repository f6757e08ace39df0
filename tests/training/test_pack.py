"""Packed films are the same films: same pixels, same run, whatever ends the packing, and nothing else is touched."""

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.training import data_folders
from tests.training.test_train import contents
from training import check
from training.data import pack as packing
from training.data.films import Films, read_films, read_table
from training.data.pack import pack
from training.data.pixels import load_pixels
from training.fit.run_folder import hash_of
from training.train import train
from workflows.files.text_files import DataError

ROOT = Path(__file__).parents[2]
SHARD_BYTES = 300_000
"""The 120 drawn films make several tar files."""


@pytest.fixture(scope="module")
def packed(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "films"
    pack(sample, out, SHARD_BYTES)
    return out


def films_of(folder: Path) -> Films:
    return read_films(folder, validation=0.2, seed=0)


def test_packed_films_are_the_folder_s_byte_for_byte(sample: Path, packed: Path) -> None:
    one, two = films_of(sample).table, films_of(packed).table
    assert one.drop(columns="path").equals(two.drop(columns="path"))
    assert len(list(packed.glob("films-*.tar"))) > 1
    for plain, inside in zip(one["path"], two["path"], strict=True):
        assert inside.read_bytes() == inside.open("rb").read() == plain.read_bytes()
        assert inside.relative_to(packed) == plain.relative_to(sample)
        assert inside.stat().st_size == plain.stat().st_size
        assert inside.stat().st_mtime_ns == plain.stat().st_mtime_ns
    assert hash_of(films_of(sample)) == hash_of(films_of(packed))
    assert films_of(packed).synthetic


def test_any_tar_program_gives_the_films_back(sample: Path, packed: Path, tmp_path: Path) -> None:
    for shard in packed.glob("films-*.tar"):
        with tarfile.open(shard) as tar:
            tar.extractall(tmp_path, filter="data")
    assert contents(tmp_path) == {name: data for name, data in contents(sample).items() if name.endswith(".png")}


def test_a_training_from_packed_films_is_the_folder_s_bit_for_bit_and_goes_on_from_either(
    packed: Path, tiny_config, tmp_path: Path
) -> None:
    configs = [tiny_config("binary", tmp_path / name, epochs=2) for name in ("folder", "packed")]
    configs[1].data.folder = str(packed)
    configs[1].data.cache = str(tmp_path / "cache")
    one, two = (train(config) for config in configs)
    assert one == two
    runs = [tmp_path / name / "checkpoint" / "model.safetensors" for name in ("folder", "packed")]
    assert runs[0].read_bytes() == runs[1].read_bytes()
    (tmp_path / "folder" / "finished").unlink()
    configs[0].data.folder = str(packed)
    assert train(configs[0], resume=True) == one


def test_reading_packed_films_opens_tar_files_alone(packed: Path, tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from training.data.films import read_films
from training.data.pixels import load_pixels

below, opened = sys.argv[1], []
sys.addaudithook(lambda event, words: opened.append(str(words[0])) if event in ("open", "os.open") else None)
load_pixels(read_films(Path(below), validation=0.2, seed=0), 32, Path(sys.argv[2]), skip_unreadable=False)
print(*sorted(Path(path).name for path in opened if path.startswith(below) and path.endswith((".png", ".tar"))))
"""
    words = [sys.executable, "-c", program, str(packed), str(tmp_path / "cache")]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.split() == sorted(path.name for path in packed.glob("*.tar"))


def test_a_packed_film_that_cannot_be_read_is_named_as_it_was_called(sample: Path, tmp_path: Path) -> None:
    folder, out = data_folders.plain(tmp_path / "films", ROWS), tmp_path / "packed"
    pack(folder, out)
    with pytest.raises(DataError, match=r"packed/ward1/a\.png: not a PNG, JPEG or DICOM file"):
        load_pixels(films_of(out), 32, tmp_path / "cache", skip_unreadable=False)


def test_a_layout_s_tables_are_read_as_before(tmp_path: Path) -> None:
    for name, make in {
        "chexpert": data_folders.chexpert,
        "mimic": data_folders.mimic,
        "vindr": data_folders.vindr,
        "padchest": data_folders.padchest,
    }.items():
        folder = make(tmp_path / name)
        pack(folder, tmp_path / f"{name}-packed")
        one, two = read_table(folder), read_table(tmp_path / f"{name}-packed")
        assert one.layout == two.layout == name
        assert one.table.equals(two.table)
        assert (one.diseases == two.diseases).all()


def test_a_packing_that_is_killed_goes_on_and_ends_as_one_that_was_not(
    sample: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, written = tmp_path / "films", packing.written

    class Killed(BaseException):
        pass

    def until_the_second(path: Path, *words: int):
        if path.name == "films-00001.tar":
            raise Killed
        return written(path, *words)

    with monkeypatch.context() as patched:
        patched.setattr(packing, "written", until_the_second)
        with pytest.raises(Killed):
            pack(sample, out, SHARD_BYTES)
    with pytest.raises(DataError, match="was begun with the films of"):
        pack(data_folders.plain(tmp_path / "others", ROWS), out)
    first = (out / "films-00000.tar").stat().st_ino
    pack(sample, out, SHARD_BYTES)
    assert (out / "films-00000.tar").stat().st_ino == first  # kept, not packed again
    assert contents(out) == contents(packed)


def test_what_is_finished_or_something_else_is_not_packed_into(sample: Path, packed: Path, tmp_path: Path) -> None:
    before = contents(packed)
    with pytest.raises(DataError, match="holds packed films already, and they stay"):
        pack(sample, packed)
    assert contents(packed) == before
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty: name a new folder"):
        pack(sample, tmp_path)
    with pytest.raises(DataError, match="whose films are to be packed"):
        pack(sample, sample / "packed")
    assert contents(tmp_path) == {"note.txt": b"mine"}


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_damaged_tar_file_is_named(sample: Path, tmp_path: Path, damage: str) -> None:
    pack(sample, tmp_path / "films", SHARD_BYTES)
    shard = tmp_path / "films" / "films-00001.tar"
    shard.unlink() if damage == "missing" else shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"films-00001\.tar (is missing|holds 1000), where .* fetch or pack it anew"):
        films_of(tmp_path / "films")


def test_films_that_are_missing_are_missing_from_the_packed_folder_too(tmp_path: Path, capsys) -> None:
    folder = data_folders.plain(tmp_path / "films", ROWS)
    (folder / "ward2" / "a.png").unlink()
    pack(folder, tmp_path / "packed")
    assert "1 films that the tables name are missing" in capsys.readouterr().out
    with pytest.raises(DataError, match="1 films are missing"):
        films_of(tmp_path / "packed")


def test_check_data_says_the_same_of_packed_films(sample: Path, packed: Path, capsys) -> None:
    said = []
    for folder in (sample, packed):
        check.check(folder)
        said.append(capsys.readouterr().out.replace(str(folder), "FOLDER"))
    assert said[0] == said[1]


def test_pixels_of_packed_films_are_decoded_once(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = load_pixels(films_of(packed), 32, tmp_path, skip_unreadable=False)
    monkeypatch.setattr("training.data.pixels.read_film", lambda _: pytest.fail("decoded again"))
    _, again = load_pixels(films_of(packed), 32, tmp_path, skip_unreadable=False)
    assert np.array_equal(first, again)


ROWS: list[dict[str, object]] = [
    {"path": f"ward{number}/a.png", "patient": f"p{number}", "split": split, "Effusion": number % 2}
    for number, split in enumerate(("train", "train", "train", "train", "validation", "validation", "test", "test"))
]
"""Films of one name in several folders; nobody can decode them."""
