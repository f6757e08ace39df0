"""Figures as text, for every table, page and card: a figure that cannot be had is a dash; and an empty table."""

from typing import Any

from rich.table import Column, Table

NOT_KNOWN = "–"


def number(value: float | None, places: int = 3, sign: str = "") -> str:
    """``0.812``; with ``sign="+"`` ``+0.012``."""
    return NOT_KNOWN if value is None else f"{value:{sign}.{places}f}"


def interval(of: dict[str, Any] | None, places: int = 3, sign: str = "") -> str:
    """``value``, ``low`` and ``high`` -> the value and its bounds in brackets, as far as they are known."""
    value, low, high = (number(of[part] if of else None, places, sign) for part in ("value", "low", "high"))
    return value if low == NOT_KNOWN else f"{value} ({low}{' to ' if sign else '–'}{high})"


def change(measure: dict[str, float | None]) -> str:
    """``before`` and ``after`` -> ``0.040 > 0.007``."""
    return f"{number(measure['before'])} > {number(measure['after'])}"


def percent(share: float | None) -> str:
    return NOT_KNOWN if share is None else f"{100 * share:.1f}%"


def empty_table(title: str, *columns: str, words: int = 1) -> Table:
    """A table without rows, whose first ``words`` columns are of words and the others of figures."""
    left = [Column(name, no_wrap=True) for name in columns[:words]]
    return Table(*left, *(Column(name, justify="right", no_wrap=True) for name in columns[words:]), title=title)
