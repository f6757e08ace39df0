"""The page on size says what the measurements in the repository give, and which figures were measured."""

from pathlib import Path

import pytest

from benchmarks import scale

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "deploy" / "SCALE.md").read_text()


@pytest.fixture(scope="module")
def measured() -> scale.Measured:
    return scale.read()


def test_the_page_s_tables_are_those_of_the_committed_measurements(measured: scale.Measured) -> None:
    for table in (
        scale.on_cpus(measured, scale.CORE_HOUR),
        scale.by_share(measured),
        scale.beside(measured),
        scale.on_gpus(measured, scale.GPU_HOUR),
        scale.what_is_full(measured),
    ):
        assert table in PAGE, f"'python -m benchmarks.scale' prints another:\n{table}"


def test_the_page_states_what_its_tables_assume(measured: scale.Measured) -> None:
    assert f"{scale.PEAK:g} times the day's mean" in PAGE
    assert f"{scale.BUSY:.0%} busy" in PAGE
    assert f"{scale.MACHINE_CORES} cores" in PAGE
    assert f"{scale.GPU_EFFICIENCY:.0%} of the published peak" in PAGE
    assert f"{scale.CORE_HOUR:g} a core-hour" in PAGE
    assert f"{scale.GPU_HOUR:g} an hour" in PAGE
    for form in ("png", "dicom"):
        gib = measured.of("base", "ours_gateway", 50, form)["peak_rss_mib"] / 1024
        assert f"{gib:.1f} GiB" in PAGE


def test_machines_and_cost_follow_the_page_s_formulas() -> None:
    # 10 million films a day are 115.7 a second, 347 in the busiest hour; a machine gives 70% of 100.
    assert scale.machines(10**7, 100.0) == 5
    assert scale.machines(10**5, 100.0) == 1
    assert scale.cost(0.36, 0.07) == pytest.approx(1e6 * 0.36 / 0.7 / 3600 * 0.07) == pytest.approx(10.0)


def test_one_page() -> None:
    assert len(PAGE.splitlines()) <= 80
