"""Films on a cluster of two nodes are read as in process, each once, whatever is killed."""

import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import s3fs
from ray.cluster_utils import Cluster

from benchmarks.arms.ray_nodes import add_node
from client.journal import COLUMNS, ERROR, IMAGE, PROBABILITIES, ROUTED
from cluster import score as command
from tests.cluster.command import LIMIT, PER_FILE, start, wait_until
from tests.cluster.conftest import BAD, STORE_MEMORY, Films
from training.data.films import read_table
from training.evaluation.score import score

TOLERANCE = 1e-6
"""Of a probability: the ViT rounds otherwise in another batch."""
MISSING = "missing.png"


def check_rows(table: pa.Table, films: Films, missing: Iterable[str] = ()) -> None:
    """Every film once, and each as the steps in process read it."""
    rows = {row[IMAGE]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    assert rows.keys() == films.rows.keys() | set(missing)
    assert table.column_names == [*COLUMNS, "reason", "sha256"]
    for name, expected in films.rows.items():
        row = rows[name]
        for column in (ROUTED, "models", ERROR, "reason", "sha256"):
            assert row[column] == expected.get(column), (name, column)
        if row[ERROR] is None:
            found = [row[column] for column in PROBABILITIES]
            np.testing.assert_allclose(found, [expected[column] for column in PROBABILITIES], atol=TOLERANCE, rtol=0)
        else:
            assert all(row[column] is None for column in PROBABILITIES)


@pytest.fixture(scope="module")
def scored(two_nodes: Cluster, films: Films, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a list of films, one of which is missing, during whose reading a node was killed."""
    folder = tmp_path_factory.mktemp("scored")
    listing, results = folder / "films.txt", folder / "results"
    listing.write_text("".join(f"{films.folder / name}\n" for name in (*sorted(films.rows), MISSING)))
    run = start(listing, "--out", results, "--models", films.store, "--address", two_nodes.address)
    wait_until(lambda: list(results.glob("part-*.parquet")), run)
    (node,) = two_nodes.worker_nodes
    two_nodes.remove_node(node, allow_graceful=False)
    began = len(list(results.glob("part-*.parquet")))
    said, log = run.communicate(timeout=LIMIT)
    assert run.returncode == 1, log
    assert "Warning" not in log
    assert "core_worker" not in log
    shards = -(-(len(films.rows) + 1) // PER_FILE)
    assert began < shards / 2, "the node was to be killed while films are read"
    assert f"{len(films.rows) + 1} films, {len(films.rows) - len(BAD)} read\n3 refused: cut.png (Truncated" in said
    assert f"1 without a report: {MISSING} (FileNotRead)" in said
    add_node(two_nodes, STORE_MEMORY)
    return results


def test_a_node_that_is_killed_costs_no_film_and_none_is_there_twice(scored: Path, films: Films) -> None:
    table = pyarrow.dataset.dataset(scored, format="parquet").to_table()
    check_rows(table, films, [MISSING])
    names = [name for path in sorted(scored.glob("part-*")) for name in pq.read_table(path)[IMAGE].to_pylist()]
    assert names == [*sorted(films.rows), MISSING]


def test_films_that_are_refused_are_rows_with_the_reason(scored: Path) -> None:
    table = pyarrow.dataset.dataset(scored, format="parquet").to_table()
    refused = {row[IMAGE]: row for row in table.to_pylist() if row[ERROR]}
    assert {name: row[ERROR] for name, row in refused.items()} == {**BAD, MISSING: "FileNotRead"}
    assert refused["words.png"]["reason"].startswith("not a PNG, JPEG or DICOM file")
    assert MISSING in refused[MISSING]["reason"]
    assert refused[MISSING]["sha256"] is None


def test_the_results_score_as_the_run_s_own_table(scored: Path, run: Path, sample: Path) -> None:
    found = score(scored, read_table(sample), sample / "test_list.txt")["scores"]
    own = score(run / "predictions.csv", read_table(sample), sample / "test_list.txt")["scores"]
    assert found["finding"]["labels"]["Finding"]["auc"] == own["finding"]["labels"]["Finding"]["auc"]
    assert found["diseases"]["labels"].keys() == own["diseases"]["labels"].keys()


def test_the_same_command_on_finished_results_reads_and_writes_nothing(
    scored: Path, films: Films, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in scored.iterdir()}
    words = [str(scored.parent / "films.txt"), "--out", str(scored), "--models", str(films.store)]
    assert command.main([*words, "--address", "127.0.0.1:1"]) == 1
    assert f"{len(films.rows) + 1} films, " in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in scored.iterdir()} == before


def test_after_the_command_is_killed_the_same_one_reads_what_is_left_in_s3_with_a_ray_of_its_own(
    two_nodes: Cluster, films: Films, s3: s3fs.S3FileSystem
) -> None:
    s3.put([str(path) for path in sorted(films.folder.iterdir())], "films/source/")
    words = ["s3://films/source", "--out", "s3://films/results", "--models", films.store]
    run = start(*words, "--address", two_nodes.address)
    wait_until(lambda: parts(s3), run)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    written = parts(s3)
    assert 0 < len(written) < len(films.rows) / PER_FILE / 2
    for path in written:  # were they read again, they would be missing
        with s3.open(path, "rb") as file:
            s3.rm([f"films/source/{name}" for name in pq.read_table(file)[IMAGE].to_pylist()])
    again = start(*words)
    seen = processes_of_own_ray(again)
    said, log = again.communicate(timeout=LIMIT)
    assert again.returncode == 4, log
    assert f"{len(films.rows)} films, {len(films.rows) - len(BAD)} read\n3 refused: " in said
    assert {path: made for path, made in parts(s3).items() if path in written} == written
    check_rows(pyarrow.dataset.dataset(sorted(parts(s3)), format="parquet", filesystem=s3).to_table(), films)
    _, alive = psutil.wait_procs(seen, timeout=LIMIT)
    assert alive == []


def parts(s3: s3fs.S3FileSystem) -> dict[str, object]:
    """The files of results, and when each was written."""
    s3.invalidate_cache()
    found = s3.glob("films/results/part-*.parquet", detail=True)
    return {path: facts["LastModified"] for path, facts in found.items()}


def processes_of_own_ray(run: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Of the Ray that a command without a cluster starts, which wants a token and reports nothing to its makers."""
    wait_until(lambda: len(environments_of_ray(run)) == 2, run)
    environments, seen = environments_of_ray(run), descendants(run)
    assert {(one["RAY_USAGE_STATS_ENABLED"], one["RAY_AUTH_MODE"]) for one in environments} == {("0", "token")}
    return seen


def environments_of_ray(process: "subprocess.Popen[str]") -> list[dict[str, str]]:
    """Of its two servers, once they have them: a program that is just being started has none."""
    found = []
    for one in descendants(process):
        with suppress(psutil.Error):
            if one.name() in ("gcs_server", "raylet") and (environment := one.environ()):
                found.append(environment)
    return found


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
