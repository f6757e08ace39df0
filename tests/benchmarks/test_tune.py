"""Tuning keeps the specification's comments, and the shortest delay that costs nothing."""

import pytest
import yaml

from benchmarks.tune import SPECIFICATION, Setting, choose, specified


def test_the_specification_changes_in_two_numbers() -> None:
    before = SPECIFICATION.read_text()
    after = specified(before, 32, 7)
    models = yaml.safe_load(after)["models"]
    assert (models["batch-size"], models["max-batch-delay"]) == (32, 7)
    changed = [(old, new) for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert [new.split("#")[1:] for _, new in changed] == [old.split("#")[1:] for old, _ in changed]
    assert len(changed) <= 2


def test_a_specification_without_a_batch_size_is_refused() -> None:
    with pytest.raises(ValueError, match="batch-size"):
        specified("models:\n  max-batch-delay: 5\n", 16, 5)


def test_the_shortest_delay_of_those_that_are_as_fast_wins() -> None:
    slow, quick = Setting(16, 2, 8.0, 400.0), Setting(16, 5, 9.9, 405.0)
    assert choose([slow, quick, Setting(32, 10, 10.0, 409.0)]) == quick


def test_a_setting_that_keeps_a_film_alone_waiting_is_not_chosen() -> None:
    quick = Setting(16, 5, 9.0, 400.0)
    assert choose([quick, Setting(32, 10, 12.0, 411.0)]) == quick
