"""The tables of what the gateway notes: the same in SQLite and in PostgreSQL, where they have a schema of their own.

What a reader says is never changed or removed, nor is the report that it is about: the database itself refuses that, by
triggers, and in PostgreSQL by the foreign key.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import (
    DDL,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Insert,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    event,
    func,
    literal,
    select,
)

SCHEMA = "cxr_cascade"
"""In PostgreSQL."""
TABLES = MetaData()
REPORTS = Table(
    "reports",
    TABLES,
    Column("id", Text, primary_key=True),
    Column("given", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("pair", Text, nullable=False),
    Column("models", Text, nullable=False),
    Column("routed", Integer, nullable=False),
    Column("scores", Text, nullable=False),
    Column("present", Text, nullable=False),
)
"""``given``: UTC, ISO 8601, which sorts by time. ``scores`` and ``present`` are JSON."""
FEEDBACK = Table(
    "feedback",
    TABLES,
    Column("report", Text, ForeignKey(REPORTS.c.id), primary_key=True),
    Column("given", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("readable", Integer, nullable=False),
    Column("labels", Text, nullable=False),
    Column("remark", Text, nullable=False),
)
HISTOGRAMS = Table(
    "histograms",
    TABLES,
    *(Column(name, Text, primary_key=True) for name in ("day", "pair", "quantity")),
    Column("bin", Integer, primary_key=True),
    Column("films", Integer, nullable=False),
    sqlite_with_rowid=False,
)
KEY = list(HISTOGRAMS.primary_key.columns)
ONE_MORE = {"films": HISTOGRAMS.c.films + 1}
IN_SQLITE = (
    """CREATE TRIGGER IF NOT EXISTS feedback_stays BEFORE DELETE ON feedback
    BEGIN SELECT raise(ABORT, 'feedback is never removed'); END""",
    """CREATE TRIGGER IF NOT EXISTS feedback_is_as_it_was_given BEFORE UPDATE ON feedback
    BEGIN SELECT raise(ABORT, 'feedback is never changed'); END""",
    """CREATE TRIGGER IF NOT EXISTS judged_reports_stay BEFORE DELETE ON reports
    WHEN EXISTS (SELECT 1 FROM feedback WHERE report = OLD.id)
    BEGIN SELECT raise(ABORT, 'a report that a reader has judged is never removed'); END""",
)
IN_POSTGRESQL = (
    f"""CREATE FUNCTION {SCHEMA}.feedback_stays() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'feedback is never changed or removed'; END $$""",
    f"""CREATE TRIGGER feedback_stays BEFORE UPDATE OR DELETE ON {SCHEMA}.feedback
    FOR EACH ROW EXECUTE FUNCTION {SCHEMA}.feedback_stays()""",
    f"""CREATE TRIGGER feedback_stays_whole BEFORE TRUNCATE ON {SCHEMA}.feedback
    FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.feedback_stays()""",
)
for dialect, orders in (("sqlite", IN_SQLITE), ("postgresql", IN_POSTGRESQL)):
    for order in orders:
        event.listen(TABLES, "after_create", DDL(order).execute_if(dialect=dialect))


def count_films(rows: Connection, day: str, pair: str, bins: Mapping[str, int]) -> None:
    """One film more in the bin of each quantity. The database adds, so that replicas lose none to one another; and it
    is told in one order, so that two of them never wait for one another in a circle."""
    quantities, numbers = zip(*sorted(bins.items()), strict=True)
    of_film: dict[str, Any] = {"day": day, "pair": pair}
    if rows.dialect.name == "postgresql":
        rows.execute(_one_more_in_postgresql(), {**of_film, "quantity": list(quantities), "bin": list(numbers)})
    else:
        of_film["films"] = 1
        each = zip(quantities, numbers, strict=True)
        rows.execute(_one_more_in_sqlite(), [{**of_film, "quantity": name, "bin": bin} for name, bin in each])


@cache
def _one_more_in_sqlite() -> Insert:
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(HISTOGRAMS).on_conflict_do_update(index_elements=KEY, set_=ONE_MORE)


@cache
def _one_more_in_postgresql() -> Insert:
    """One statement for all bins: one for each would be some twenty answers to wait for, while others wait, too."""
    from sqlalchemy.dialects import postgresql

    def each(name: str, type: type[Text] | type[Integer]) -> ColumnElement[Any]:
        return func.unnest(bindparam(name, type_=postgresql.ARRAY(type)))

    day, pair = (bindparam(name, type_=Text) for name in ("day", "pair"))
    films = select(day, pair, each("quantity", Text), each("bin", Integer), literal(1))
    adds = postgresql.insert(HISTOGRAMS).from_select(list(HISTOGRAMS.c), films)
    return adds.on_conflict_do_update(index_elements=KEY, set_=ONE_MORE)
