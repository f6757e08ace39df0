"""Where the gateway's records are: an SQLite file of its own, or a PostgreSQL database that replicas share.

Both have the same tables (``gateway.record_tables``), and transactions that end on the disk, or where the caller does
not ask for that, in the file at least: a kill of the gateway loses none.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.schema import CreateSchema

from gateway.record_tables import SCHEMA, TABLES
from gateway.settings import is_url
from workflows.command_line import Fault

APPLICATION_ID = 0x43585231
"""By which SQLite knows the file as ours ("CXR1"), and PostgreSQL the lock by which replicas take turns."""
WAIT = 5.0
"""Seconds for another gateway on the same file."""
WAIT_FOR_SERVER = 3.0
"""Seconds for a connection to PostgreSQL, and for each of its answers."""


class RecordsFault(Fault):
    """The records are not there, are not the gateway's, or cannot be read."""


FAULTS = (SQLAlchemyError, sqlite3.Error, OSError, RecordsFault)
"""What a transaction may end with; some of the drivers' own faults come as they are."""


class Database:
    """Nothing is opened before the first transaction.

    Args:
        place: a file's path, or PostgreSQL's URL.
        reads: whether nothing is to be made or written.

    Attributes:
        name: for the log; without a password.
        is_shared: whether it is a server that may be away.

    Raises:
        RecordsFault: ``place`` is neither.
    """

    def __init__(self, place: str, reads: bool = False) -> None:
        self.is_shared = is_url(place)
        self._reads, self._prepared = reads, False
        if self.is_shared:
            url = _server(place)
            self.name = url.set(query={}).render_as_string(hide_password=True)
            self._engine = _postgresql(url)
        else:
            self.name = place
            self._engine = _sqlite(Path(place), reads)

    @contextmanager
    def transaction(self, flushed: bool = False) -> Iterator[Connection]:
        """A transaction that writes, or of a database that is only read, one that reads.

        Args:
            flushed: whether it must be on an SQLite file's disk at its end; PostgreSQL has its own setting for that.

        Raises:
            RecordsFault: another program's file is there.
            sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError: it failed, and nothing of it is kept; where the
                connection broke at its very end that is not known.
        """
        if not self._prepared and not self._reads:
            self._prepare()
        with self._engine.connect().execution_options(flushed=flushed) as rows, rows.begin():
            yield rows

    def look(self) -> None:
        """A transaction with nothing in it: raises what the next one would, and makes what is not there yet."""
        with self.transaction():
            pass

    def take_turns(self, rows: Connection) -> None:
        """Until the transaction's end no other replica goes past this; in SQLite none writes as it is."""
        if self.is_shared:
            rows.execute(select(func.pg_advisory_xact_lock(APPLICATION_ID)))

    def close(self) -> None:
        """The next transaction opens it anew."""
        self._engine.dispose()
        self._prepared = False

    def _prepare(self) -> None:
        with self._engine.begin() as rows:
            if not self.is_shared:
                TABLES.create_all(rows)
                rows.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
            else:
                self.take_turns(rows)
                # Who made them may have left the gateway no right to make any.
                if rows.scalar(select(func.to_regclass(f"{SCHEMA}.histograms"))) is None:
                    rows.execute(CreateSchema(SCHEMA, if_not_exists=True))
                    TABLES.create_all(rows)
        self._prepared = True


def reading(place: str) -> Database:
    """The records of a gateway, which may be running.

    Raises:
        RecordsFault: there is no such file, or it is no URL of a PostgreSQL.
    """
    if not is_url(place) and not Path(place).is_file():
        raise RecordsFault(f"{place} is not there: run this in the gateway's folder, or name the file with --records")
    return Database(place, reads=True)


def reason(fault: BaseException) -> str:
    """Of one of ``FAULTS``, for the log: SQLite's name for it, PostgreSQL's code (SQLSTATE), or what the connection
    said; nothing that stands in a row."""
    cause = getattr(fault, "orig", None) or fault
    said = cause.args[0] if cause.args else ""
    if isinstance(said, dict):  # pg8000's: the message's fields by their letters
        return f"PostgreSQL {said.get('C')}"
    if type(cause).__name__ == "InterfaceError":
        return str(said)
    return str(getattr(cause, "sqlite_errorname", type(cause).__name__))


def _server(place: str) -> URL:
    said = "records are a file, or postgresql://USER:PASSWORD@HOST:5432/DATABASE; CXR_RECORDS (--records) is neither"
    try:
        url = make_url(place)
    except (ArgumentError, ValueError):  # or a port that is no number
        raise RecordsFault(said) from None
    if url.drivername not in ("postgresql", "postgresql+pg8000"):
        raise RecordsFault(said)
    return url.set(drivername="postgresql+pg8000")


def _postgresql(url: URL) -> Engine:
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # of broken connections our own log tells, shorter
    return create_engine(
        url,
        connect_args={"timeout": WAIT_FOR_SERVER},
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,  # a server that was started again meanwhile costs no film its id
        hide_parameters=True,
        execution_options={"schema_translate_map": {None: SCHEMA}},
    )


def _sqlite(path: Path, reads: bool) -> Engine:
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": WAIT}, hide_parameters=True)

    @event.listens_for(engine, "do_connect")
    def make_file(*_: Any) -> None:
        # A file that is there is not opened: closing it would take this process's locks from connections that are
        # open, and then another program that ends its own deletes the log with what was written
        # (sqlite.org/howtocorrupt, 2.2).
        if not reads:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    @event.listens_for(engine, "connect")
    def look(rows: sqlite3.Connection, _: Any) -> None:
        rows.isolation_level = None  # 'begin' says when a transaction begins
        try:
            _require_ours(path, rows)
            rows.execute("PRAGMA query_only=ON" if reads else "PRAGMA journal_mode=WAL")
        except BaseException:
            rows.close()
            raise

    @event.listens_for(engine, "begin")
    def begin(rows: Connection) -> None:
        flushed = rows.get_execution_options().get("flushed", False)
        rows.exec_driver_sql(f"PRAGMA synchronous={'FULL' if flushed else 'NORMAL'}")
        rows.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _require_ours(path: Path, rows: sqlite3.Connection) -> None:
    foreign = RecordsFault(f"{path} is no file of the gateway's records: move it away, or name another with --records")
    try:
        # In one statement: another replica may make the tables between two.
        look = "SELECT application_id, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id"
        ((application, tables),) = rows.execute(look).fetchall()
    except sqlite3.DatabaseError as fault:
        if fault.sqlite_errorname == "SQLITE_NOTADB":
            raise foreign from None
        raise
    if application != APPLICATION_ID and (tables or application):
        raise foreign
