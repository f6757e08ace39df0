"""Whatever is wrong with a table or a list, every command that reads it says so in a line that names file and row."""

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from handlers.findings import FINDINGS
from training.archive import archive
from training.evaluation.predictions import read_predictions
from training.fit.config import save_config
from workflows import command_line

ROOT = Path(__file__).parents[2]
TABLE, TRAIN, TEST, BOXES = "Data_Entry_2017.csv", "train_val_list.txt", "test_list.txt", "BBox_List_2017.csv"


@dataclass(frozen=True)
class Command:
    """A command line that reads a file. ``{}`` is the folder that all its files are in."""

    module: str
    words: str
    file: str


OF_A_RUN = {
    "training.train": "--config {}/train.yaml",
    "training.sweep": "--space {}/space.yaml --trials 1 --out {}/sweep --config {}/train.yaml",
    "training.evaluate": "--run {}/run",
    "training.predict": "--checkpoint {}/run/binary/checkpoint --out {}/out.csv",
    "training.report.page": "--run {}/run",
    "training.localise": "--run {}/run",
}
RECALIBRATE = "--store {}/store --data {}/data --out {}/site"
SCORED = "--predictions {}/model.csv --data {}/data"
READERS = f"{SCORED} --labels {{}}/labels.csv --readers {{}}/readers.csv"
TABLES = {
    **{f"{module}, NIH's table": Command(module, words, f"data/{TABLE}") for module, words in OF_A_RUN.items()},
    "recalibrate, NIH's table": Command("training.recalibrate", RECALIBRATE, f"data/{TABLE}"),
    "evaluate --predictions, NIH's table": Command("training.evaluate", SCORED, f"data/{TABLE}"),
    "evaluate --predictions": Command("training.evaluate", SCORED, "model.csv"),
    "evaluate --against": Command("training.evaluate", f"{SCORED} --against {{}}/other.csv", "other.csv"),
    "evaluate --labels": Command("training.evaluate", f"{SCORED} --labels {{}}/labels.csv", "labels.csv"),
    "evaluate --readers": Command("training.evaluate", READERS, "readers.csv"),
    "report, the run's predictions": Command("training.report.page", "--run {}/run", "run/predictions.csv"),
    "report --single": Command("training.report.page", "--run {}/run --single {}/model.csv", "model.csv"),
    "localise, the boxes": Command("training.localise", "--run {}/run", f"data/{BOXES}"),
}
LISTS = {
    "train, train list": Command("training.train", OF_A_RUN["training.train"], f"data/{TRAIN}"),
    "report, test list": Command("training.report.page", OF_A_RUN["training.report.page"], f"data/{TEST}"),
    "evaluate --list": Command("training.evaluate", f"{SCORED} --list {{}}/data/{TEST}", f"data/{TEST}"),
    "score --list": Command("client.score", f"{{}}/data --out {{}}/out.csv --list {{}}/data/{TEST}", f"data/{TEST}"),
}
OTHERS = {
    "evaluate --thresholds": Command(
        "training.evaluate", f"{READERS} --thresholds {{}}/thresholds.json", "thresholds.json"
    ),
    "sweep --space": Command("training.sweep", OF_A_RUN["training.sweep"], "space.yaml"),
}


def row(number: int, change: Callable[[str], str]) -> Callable[[str], bytes]:
    """Changes one row of a text."""

    def spoil(text: str) -> bytes:
        lines = text.splitlines()
        lines[number - 1] = change(lines[number - 1])
        return "\n".join([*lines, ""]).encode()

    return spoil


def second_cell(cell: str) -> Callable[[str], str]:
    return lambda line: ",".join([line.split(",")[0], cell, *line.split(",")[2:]])


NO_TEXT = {
    "empty": (lambda text: b"", ""),
    "a PNG": (lambda text: b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", " row 2: no text"),
    "utf-16 without its mark": (lambda text: text.encode("utf-16-le"), " row 1: no text"),
    "utf-16 that is cut off": (lambda text: text.encode("utf-16")[:-1], r" row \d+: no UTF-16-LE"),
}
NO_TABLE = {
    "blank lines": (lambda text: b"\n \n\n", ": not a CSV table, for the file is empty"),
    "a header alone": (lambda text: text.splitlines()[0].encode(), ": the table has no rows"),
    "an open quote": (row(5, second_cell('"Mass')), " row 5: not a CSV table"),
    "a comma too many": (
        row(4, lambda line: line.rstrip(",") + ",,,,,,,,,,,,,,,,,,,,,9"),
        r" row 4: \d+ cells, where the header has",
    ),
    "a row of one cell": (row(4, lambda line: line.split(",")[0]), " row 4"),
    "cut off": (lambda text: text.encode()[: text.index("\n", 400)].rsplit(b",", 5)[0], r" row \d+"),
    "no film in a row": (row(3, lambda line: line[line.index(",") :]), " row 3"),
    "words for cells": (row(3, second_cell("seven")), " row 3"),
    "another delimiter": (lambda text: text.replace(",", "^").encode(), r" row [12]: "),
    "a name twice": (row(1, lambda line: re.sub("^([^,]*),[^,]*", r"\1,\1", line)), " row 1: the columns"),
}


@pytest.fixture(scope="module")
def all_good(run: Path, sample: Path, tiny_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the commands read."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "data").mkdir()
    for path in sample.iterdir():
        (folder / "data" / path.name).symlink_to(path)
    for name in (TABLE, TRAIN, TEST, BOXES):
        (folder / "data" / name).unlink()
        shutil.copy(sample / name, folder / "data")
    shutil.copytree(run, folder / "run", ignore=shutil.ignore_patterns("state", "tensorboard"))
    archive(run, folder / "store", "1.0.0")
    for stage in ("binary", "disease"):
        config = tiny_config(stage, folder / "new", epochs=1)
        config.data.folder = str(folder / "data")
        config.data.cache = str(folder / "cache")
        save_config(config, folder / "run" / stage / "checkpoint" / "training.yaml")
        save_config(config, folder / "train.yaml")
    (folder / "space.yaml").write_text("optim.lr: [1.0e-3, 1.0e-4]\n")
    for name in ("model.csv", "other.csv"):
        shutil.copy(run / "predictions.csv", folder / name)
    shutil.copy(run / "thresholds.json", folder)
    truth = read_predictions(folder / "model.csv", sample)
    answers = pd.DataFrame(truth.targets, columns=["Abnormal", *FINDINGS]).replace({0: "NO", 1: "YES"})
    answers.insert(0, "Image ID", truth.images)
    answers.to_csv(folder / "labels.csv", index=False)
    answers.assign(**{"Reader ID": "7"}).to_csv(folder / "readers.csv", index=False)
    return folder


@pytest.fixture
def place(all_good: Path) -> Iterator[Path]:
    """The same folder, which is as it was for every test."""
    files = {all_good / command.file for command in (*TABLES.values(), *LISTS.values(), *OTHERS.values())}
    good = {path: path.read_bytes() for path in files}
    yield all_good
    for path, data in good.items():
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(data)


def refused(command: Command, place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints on standard error; it must end with 1, and not with a traceback."""
    words = command.words.format(*[place] * command.words.count("{}")).split()
    main = importlib.import_module(command.module).main
    code = command_line.ended(lambda: main(words))
    said = capsys.readouterr().err
    assert code == 1, said
    line = next(line for line in said.splitlines() if line.startswith("error: "))
    assert "Traceback" not in said
    return line


FAULTS = [
    pytest.param(command, *fault, id=f"{where}-{what}")
    for commands, faults in ((TABLES, NO_TEXT | NO_TABLE), (LISTS, NO_TEXT))
    for where, command in commands.items()
    for what, fault in faults.items()
]


@pytest.mark.parametrize(("command", "spoil", "said"), FAULTS)
def test_a_bad_table_or_list_is_refused_by_file_and_row(
    place: Path, capsys, command: Command, spoil: Callable[[str], bytes], said: str
) -> None:
    path = place / command.file
    path.write_bytes(spoil(path.read_text()))
    assert re.search(rf"{re.escape(str(path))}{said}", refused(command, place, capsys))


@pytest.mark.parametrize("kind", ["a folder", "missing", "a link that leads nowhere", "not to be read"])
@pytest.mark.parametrize(
    "command", [*TABLES.values(), *LISTS.values(), *OTHERS.values()], ids=[*TABLES, *LISTS, *OTHERS]
)
def test_what_is_no_file_is_refused_by_its_name(place: Path, monkeypatch, capsys, command: Command, kind: str) -> None:
    path = place / command.file
    if kind == "not to be read":
        read = Path.read_bytes

        def read_bytes(self: Path) -> bytes:
            if self == path:
                raise PermissionError(13, "Permission denied", str(self))
            return read(self)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)  # root may read everything
    else:
        path.unlink()
        if kind == "a folder":
            path.mkdir()
        elif kind == "a link that leads nowhere":
            path.symlink_to(place / "nowhere")
    line = refused(command, place, capsys)
    if kind == "missing" and path.name in (TRAIN, TEST):
        assert "is there, but not its counterpart" in line or str(path) in line
    else:
        assert path.name in line


@pytest.mark.parametrize(
    "command",
    [
        TABLES["training.train, NIH's table"],
        TABLES["recalibrate, NIH's table"],
        TABLES["evaluate --predictions"],
        TABLES["evaluate --labels"],
    ],
)
def test_a_film_with_two_rows_is_refused_by_the_second(place: Path, capsys, command: Command) -> None:
    path = place / command.file
    lines = path.read_text().splitlines()
    lines[5] = ",".join(
        [f" images_001\\{lines[2].split(',')[0].upper().replace('PNG', 'Png')}", *lines[5].split(",")[1:]]
    )
    path.write_text("\n".join([*lines, ""]))
    line = refused(command, place, capsys)
    assert f"{path}: 1 films are listed twice, the first in row 6: ['{lines[2].split(',')[0]}']" in line


@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "1e3", "half", "0,5", ""])
def test_a_cell_that_is_no_number_is_refused_by_row_and_column(place: Path, capsys, cell: str) -> None:
    for command, quoted in (
        (TABLES["evaluate --predictions"], f'"{cell}"'),
        (TABLES["localise, the boxes"], f'"{cell}"'),
    ):
        path = place / command.file
        good = path.read_text()
        path.write_bytes(
            row(3, lambda line, quoted=quoted: ",".join([*line.split(",")[:2], quoted, *line.split(",")[3:]]))(good)
        )
        line = refused(command, place, capsys)
        assert f"{path} row 3" in line
        path.write_text(good)


def test_a_film_without_a_patient_is_refused_by_its_row(place: Path, capsys) -> None:
    path = place / "data" / TABLE
    path.write_bytes(row(7, lambda line: ",".join([*line.split(",")[:3], " ", *line.split(",")[4:]]))(path.read_text()))
    line = refused(TABLES["training.train, NIH's table"], place, capsys)
    assert f"{path} row 7: it has nothing under 'Patient ID'" in line


@pytest.mark.parametrize(
    "text", ["optim.lr: [1\n", "- 1\n- 2\n", "7\n", "", "optim.lr: {low: small, high: 1.0}\n", "optim.lr: []\n"]
)
def test_a_search_space_that_is_none_is_refused(place: Path, capsys, text: str) -> None:
    (place / "space.yaml").write_text(text)
    line = refused(OTHERS["sweep --space"], place, capsys)
    assert "space.yaml" in line or "optim.lr" in line or "choices" in line


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00", '{"Finding": 0.3,\n"Mass": }'])
@pytest.mark.parametrize("name", ["thresholds.json", "run/evaluation.json"])
def test_a_document_that_is_no_json_is_refused_by_its_name(all_good: Path, capsys, name: str, text: str) -> None:
    path, command = all_good / name, OTHERS["evaluate --thresholds"]
    good = path.read_text()
    path.write_text(text)
    if name != "thresholds.json":
        command = Command("training.report.page", "--run {}/run", name)
    assert str(path) in refused(command, all_good, capsys)
    path.write_text(good)


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-8-sig").replace(b"\n", b"\r\n"),
        lambda text: text.replace(",", ";").encode(),
        lambda text: text.replace(",", "\t").encode("utf-16"),
        lambda text: text.replace(",", " , ").replace(".png", ".PNG").encode(),
    ],
    ids=["utf-16", "a mark and dos lines", "semicolons", "tabs in utf-16", "blanks and capitals"],
)
def test_a_table_from_another_program_gives_the_same_scores(place: Path, write) -> None:
    good = read_predictions(place / "model.csv", place / "data")
    for path in (place / "other.csv", place / "data" / TABLE):
        path.write_bytes(write(path.read_text()))
    read = read_predictions(place / "other.csv", place / "data")
    assert (read.images == good.images).all()
    assert (read.patients == good.patients).all()
    assert (read.targets == good.targets).all()
    assert (read.scores == good.scores).all()


@pytest.mark.parametrize(
    "command", [TABLES["evaluate --predictions"], LISTS["score --list"]], ids=["evaluate", "score"]
)
def test_a_command_line_ends_with_1_and_a_line_on_standard_error(place: Path, command: Command) -> None:
    (place / command.file).write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    words = command.words.format(*[place] * command.words.count("{}")).split()
    ended = subprocess.run(
        [sys.executable, "-m", command.module, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"error: {place / command.file} row 2: no text")
    assert len(ended.stderr.splitlines()) == 1
