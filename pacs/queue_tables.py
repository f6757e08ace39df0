"""The tables of the queue, in one SQLite file; no column holds a field of a patient's."""

import sqlite3
from pathlib import Path

from workflows.command_line import Fault
from workflows.files.atomic import naming

VERSION = 1
"""Of the tables (SQLite's ``user_version``)."""
TABLES = """
CREATE TABLE films (
    id INTEGER PRIMARY KEY,
    sop_uid TEXT NOT NULL UNIQUE,
    study_uid TEXT NOT NULL,
    digest TEXT NOT NULL,
    source TEXT NOT NULL,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    failures INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,
    received REAL NOT NULL,
    changed REAL NOT NULL,
    bytes INTEGER NOT NULL,
    object_bytes INTEGER NOT NULL DEFAULT 0,
    report TEXT,
    commitment TEXT
);
CREATE INDEX films_by_state ON films (state, destination, due);
CREATE INDEX films_by_study ON films (study_uid);
CREATE INDEX films_by_commitment ON films (commitment) WHERE commitment IS NOT NULL;
CREATE TABLE objects (uid TEXT PRIMARY KEY, class_uid TEXT NOT NULL, film INTEGER NOT NULL);
CREATE INDEX objects_by_film ON objects (film);
CREATE TABLE studies (study_uid TEXT PRIMARY KEY, changed REAL NOT NULL, summary TEXT);
CREATE TABLE marks (server TEXT PRIMARY KEY, mark TEXT NOT NULL);
"""
"""``due``, ``received`` and ``changed`` in seconds of Unix time. ``bytes`` and ``object_bytes``: on the disk; 0 once
they are gone. ``commitment``: UID of the transaction that the film's objects are part of."""


class QueueError(Fault):
    """There is no queue, or none that this code reads."""


def opened(path: Path) -> sqlite3.Connection:
    """The file, made where it is missing; every statement is a transaction of its own unless one is begun.

    Raises:
        QueueError: it is no queue of this version.
        NotWritten: the disk is full.
    """
    try:
        with naming(path):
            rows = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            rows.execute("PRAGMA journal_mode=WAL")
            rows.execute("PRAGMA synchronous=FULL")  # a film that was acknowledged outlives a power failure
            rows.execute("BEGIN IMMEDIATE")
            (version,) = rows.execute("PRAGMA user_version").fetchone()
            if not version:
                for statement in TABLES.split(";"):
                    rows.execute(statement)
                rows.execute(f"PRAGMA user_version={VERSION}")
            rows.execute("COMMIT")
    except sqlite3.DatabaseError as fault:
        raise QueueError(f"{path} is no queue of a node ({fault}): move it away, or name another --folder") from fault
    if version not in (0, VERSION):
        raise QueueError(f"{path} is a queue of version {version}, this code has {VERSION}: update the node")
    return rows
