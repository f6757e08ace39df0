"""Films are the same ones whatever they are brought in, and results are only ever one run's."""

import io
import re
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from client.film_list import FilmListError
from client.journal import IMAGE
from cluster import score as command
from cluster.film_files import read_files
from cluster.models import models_of
from cluster.results import Manifest, ResultsError, begin, finished, write_part
from cluster.sources import Place, list_films
from cluster.steps import DECODED, Decode, Name, Screen
from handlers.refusals import MAX_BYTES
from handlers.report import Refusal
from tests.cluster.conftest import Films

Contents = dict[str, bytes]


@pytest.fixture
def contents(films: Films) -> Contents:
    """Twelve films and two files that are none, by name."""
    names = [*sorted(films.rows)[:12], "words.png", "empty.png"]
    return {name: (films.folder / name).read_bytes() for name in names}


def folder_of(contents: Contents, folder: Path) -> Path:
    for name, content in contents.items():
        (folder / name[0]).mkdir(parents=True, exist_ok=True)
        (folder / name[0] / name).write_bytes(content)
    (folder / "notes.txt").write_text("no film")
    return folder


def listing_of(contents: Contents, folder: Path) -> Path:
    folder_of(contents, folder)
    path = folder / "list.txt"
    path.write_text("".join(f"{name[0]}/{name}\n" for name in contents))
    return path


def table_of(contents: Contents, folder: Path) -> Path:
    folder_of(contents, folder)
    path = folder / "films.parquet"
    pq.write_table(pa.table({"site": ["a"] * len(contents), "path": [f"{name[0]}/{name}" for name in contents]}), path)
    return path


def zip_of(contents: Contents, folder: Path) -> Path:
    with zipfile.ZipFile(folder / "films.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (contents | {"notes.txt": b"no film"}).items():
            archive.writestr(f"{name[0]}/{name}", content)
    return folder / "films.zip"


def tar_of(contents: Contents, folder: Path, name: str = "films.tar") -> Path:
    with tarfile.open(folder / name, "w") as archive:
        for member, content in (contents | {"notes.txt": b"no film"}).items():
            info = tarfile.TarInfo(f"{member[0]}/{member}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return folder / name


def shards_of(contents: Contents, folder: Path) -> Path:
    """A folder of two tar archives, as WebDataset has them."""
    names = sorted(contents)
    tar_of({name: contents[name] for name in names[:5]}, folder, "0.tar")
    tar_of({name: contents[name] for name in names[5:]}, folder, "1.tar")
    return folder


def read(source: str) -> dict[str, bytes | Refusal]:
    films = list_films(source)
    files = read_files([Place(*row.values()) for row in films.drop_columns([IMAGE]).to_pylist()])
    return dict(zip(films[IMAGE].to_pylist(), files, strict=True))


@pytest.mark.parametrize("bring", [folder_of, listing_of, table_of, zip_of, tar_of, shards_of])
def test_films_are_the_same_ones_whatever_they_are_brought_in(bring, contents: Contents, tmp_path: Path) -> None:
    assert read(str(bring(contents, tmp_path))) == contents


@pytest.mark.parametrize("bring", [folder_of, listing_of, table_of, zip_of, tar_of, shards_of])
def test_and_so_they_are_in_s3(bring, contents: Contents, tmp_path: Path, s3: s3fs.S3FileSystem) -> None:
    source = bring(contents, tmp_path)
    s3.put(str(tmp_path), f"films/{bring.__name__}", recursive=True)
    assert read(f"s3://films/{bring.__name__}/{source.relative_to(tmp_path)}".removesuffix("/.")) == contents


def test_what_cannot_be_read_is_said_film_by_film(contents: Contents, tmp_path: Path) -> None:
    archive = zip_of(contents, tmp_path)
    bad = [Place("/nowhere/a.png"), Place(str(archive), "no-such.png"), Place("/nowhere/b.zip", "a.png")]
    answers = read_files([*bad, Place(str(archive), "0/" + next(iter(contents)))])
    assert [one.error.type for one in answers if isinstance(one, Refusal)] == ["FileNotRead"] * 3
    assert answers[3] == next(iter(contents.values()))


def test_of_a_file_too_large_for_a_film_no_more_is_read_than_tells_so(tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(3 * MAX_BYTES)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "large.png", "large.png")
    whole, packed = read_files([Place(str(tmp_path / "large.png")), Place(str(tmp_path / "bomb.zip"), "large.png")])
    assert isinstance(whole, bytes)
    assert len(whole) == MAX_BYTES + 1
    assert isinstance(packed, Refusal)
    assert packed.error.type == "ImageTooLarge"


def test_names_that_films_share_are_told_apart_and_a_film_is_listed_once(films: Films, tmp_path: Path) -> None:
    film = (films.folder / sorted(films.rows)[0]).read_bytes()
    for site in ("a", "b"):
        (tmp_path / site).mkdir()
        (tmp_path / site / "1.png").write_bytes(film)
    assert list_films(str(tmp_path))[IMAGE].to_pylist() == ["a/1.png", "b/1.png"]
    (tmp_path / "twice.txt").write_text("a/1.png\nb/1.png\na/1.png\n")
    with pytest.raises(FilmListError, match=r"twice\.txt: 1 films are there twice, the first: .*a/1\.png"):
        list_films(str(tmp_path / "twice.txt"))
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        list_films(str(tmp_path / "nowhere"))


def test_results_of_another_source_or_by_other_models_are_refused_and_stay(films: Films, tmp_path: Path) -> None:
    results, source = tmp_path / "results", str(films.folder)
    models = models_of(films.store)
    begin(str(results), Manifest(source=source, films=243, films_per_shard=100, models=models), list_films(source))
    before = {path: path.read_bytes() for path in results.iterdir()}
    words = ["--out", str(results), "--models", str(films.store)]
    with pytest.raises(
        ResultsError, match=re.escape(f"holds the results of {source}, not of {tmp_path}: give --out another")
    ):
        command.main([str(tmp_path), *words])
    others = models | {"disease": models["disease"].model_copy(update={"sha256": "0" * 64})}
    (results / "_manifest.json").write_text(
        Manifest(source=source, films=243, films_per_shard=100, models=others).model_dump_json()
    )
    with pytest.raises(ResultsError, match=r"was begun by another disease model: 1\.0\.0"):
        command.main([source, *words])
    (results / "_manifest.json").write_bytes(before[results / "_manifest.json"])
    assert {path: path.read_bytes() for path in results.iterdir()} == before
    with pytest.raises(ResultsError, match="holds other files, the first: "):
        command.main([source, "--out", str(films.folder), "--models", str(films.store)])


def test_a_part_that_is_half_written_is_none(films: Films, tmp_path: Path) -> None:
    source, results = str(films.folder), str(tmp_path)
    manifest = Manifest(source=source, films=243, films_per_shard=8, models=models_of(films.store))
    begin(results, manifest, list_films(source))
    write_part(results, 3, pa.table({"a": [1]}))
    (tmp_path / ".part-000004.parquet.0a1b2c3d.partial").write_bytes(b"half")
    assert finished(results) == {3}


def test_only_routed_films_reach_the_network_of_stage_2(films: Films, tmp_path: Path) -> None:
    source, results = str(films.folder), str(tmp_path)
    models = models_of(films.store)
    begin(results, Manifest(source=source, films=243, films_per_shard=40, models=models), list_films(source))
    tables = list(Decode(results, 32, 16)(pa.table({"shard": [1, 6]})))
    assert [len(table) for table in tables] == [16, 16, 8, 3]
    assert all(table.schema == DECODED for table in tables)
    screen, name = Screen(str(films.store), models["binary"]), Name(str(films.store), models["disease"])
    rows = name(screen(pa.concat_tables(tables))).to_pylist()
    routed = [row for row in rows if row["routed"]]
    assert name.naming.films_read == len(routed)
    assert 0 < len(routed) < len(rows)
    assert [row[IMAGE] for row in rows] == [*sorted(films.rows)[40:80], *sorted(films.rows)[240:]]


def test_a_step_that_fails_on_a_batch_costs_the_film_that_it_fails_on_alone(films: Films, tmp_path: Path) -> None:
    source, results = str(films.folder), str(tmp_path)
    models = models_of(films.store)
    begin(results, Manifest(source=source, films=243, films_per_shard=8, models=models), list_films(source))
    (table,) = Decode(results, 32, 16)(pa.table({"shard": [0]}))
    screen, name = Screen(str(films.store), models["binary"]), Name(str(films.store), models["disease"])
    step, failing = screen.screening.screen_decoded, 3
    pixels = table["pixels"].to_pylist()[failing]

    def fails_on_one(decoded, *others):
        if any(not isinstance(one, Refusal) and one.pixels.tobytes() == pixels for one in decoded):
            raise RuntimeError("a kernel failed")
        return step(decoded, *others)

    screen.screening.screen_decoded = fails_on_one  # type: ignore[method-assign]
    errors = name(screen(table))["error"].to_pylist()
    assert errors == [None] * failing + ["InternalError"] + [None] * (7 - failing)
