"""What the benchmark of the cluster finds in results: lost films, films that are there twice, other probabilities."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import cluster
from client.journal import PROBABILITIES, row_of
from cluster.results import write_part
from cluster.steps import READING
from handlers.findings import FINDINGS
from handlers.report import ModelVersions, Refusal, Report, Score


def report(probability: float) -> Report:
    scores = {name: Score.at(probability, 0.5) for name in FINDINGS}
    finding = Score.at(probability, 0.5)
    models = ModelVersions(binary="1.0.0", disease="1.0.0")
    return Report(finding=finding, routed=finding.present, diseases=scores, models=models)


def write(folder: Path, shard: int, *rows: dict[str, object]) -> None:
    table = pa.Table.from_pylist(list(rows), schema=READING).drop_columns(["shard", "place"])
    write_part(str(folder), shard, table)
    path = folder / f"part-{shard:06}.parquet"
    os.utime(path, (1000 + 2 * shard, 1000 + 2 * shard))


def test_it_counts_what_is_lost_there_twice_and_other_than_in_process(tmp_path: Path) -> None:
    refused = Refusal.because(422, "BlankImage", "the film shows nothing")
    films = {"a": report(0.2), "b": report(0.8), "c": refused, "d": report(0.4), "e": report(0.9)}
    expected = {name: row_of(name, answer) for name, answer in films.items()}
    write(tmp_path, 0, expected["a"], expected["a"])
    write(tmp_path, 1, row_of("b", report(0.8001)), expected["c"])
    write(tmp_path, 2, row_of("d", report(0.6)))
    found = cluster.compare(tmp_path, expected)
    assert found.pop("largest_difference") == pytest.approx(0.2)
    assert found == {
        "rows": 5,
        "films_twice": 1,
        "films_lost": 1,
        "refused": 1,
        "refused_otherwise": 0,
        "routed": 2,
        "routed_otherwise": 1,
    }
    assert len(PROBABILITIES) == 15


def test_a_rate_is_that_of_the_middle_half(tmp_path: Path) -> None:
    for shard in range(8):
        write(tmp_path, shard, *(row_of(f"{shard}-{number}", report(0.5)) for number in range(4)))
    for shard, late in ((0, 900), (7, 2000)):
        os.utime(tmp_path / f"part-{shard:06}.parquet", (late, late))
    assert cluster.rate_of(tmp_path) == {"films_per_second": 16 / 8}
