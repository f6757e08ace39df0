"""What the gateway is told: command line, environment (``CXR_PORT`` …) or a YAML file, in that order."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser


@dataclass(frozen=True)
class Settings:
    """One gateway.

    Args:
        host: address to listen on; the loopback alone unless told.
        port: TCP port.
        server: folder of the TorchServe behind it (``config.properties``, ``key_file.json``, ``logs/``).
        secrets: folder of the API keys.
        max_in_flight: films that TorchServe may have at once: a batch in each node, or one read and one queued,
            far below TorchServe's job queue.
        max_waiting: films that may wait beside them.
        max_wait: seconds that a film may wait.
        upload_limit: seconds that a body may take to arrive.
        deadline: seconds that TorchServe may take for a film.
        max_bytes: of a body.
        restart_after: seconds without a read film after which TorchServe is started again; a killed worker is back
            in 20.
        records: what the gateway notes of reports (``gateway.records``): an SQLite file, within ``server`` unless it is
            an absolute path, or the URL of a PostgreSQL database that replicas share
            (``postgresql://USER:PASSWORD@HOST/DATABASE``).
        records_days: for which a report waits for what a reader says of it; one that was judged stays.
        records_number: of reports that wait, at most.
        drift_days: that films are counted for, to be compared with the archives' validation films.
        keep_films: whether films that were read are kept beside the file of ``records`` (with a URL, in ``records/``
            of ``server``), in ``films/``, each as the picture that the models got, under its report's id.
        keep_films_days: for which a film is kept.
        keep_films_mb: that all of them may take; the oldest go first.
        quality: what becomes of a film that the models cannot read (unlike the training films, turned, inverted), by
            stage 1's features: ``warn``, it is read and its report says so; ``refuse``, 422 NotAChestFilm; ``correct``,
            turned and inverted films are put right before they are read, and the report says so.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    server: Path = Path()
    secrets: Path = Path("secrets")
    max_in_flight: int = 32
    max_waiting: int = 64
    max_wait: float = 5.0
    upload_limit: float = 30.0
    deadline: float = 30.0
    max_bytes: int = 64 * 1024 * 1024
    restart_after: float = 60.0
    quality: Literal["warn", "refuse", "correct"] = "warn"
    records: str = "records/gateway.sqlite"
    records_days: int = 90
    records_number: int = 100_000
    drift_days: int = 14
    keep_films: bool = False
    keep_films_days: int = 30
    keep_films_mb: int = 10_000

    @property
    def records_place(self) -> str:
        """The file's path, or the URL."""
        return self.records.strip() if is_url(self.records) else str(self.server / self.records)

    @property
    def films_folder(self) -> Path:
        """Where films are kept."""
        file = type(self).records if is_url(self.records) else self.records
        return (self.server / file).parent / "films"


def is_url(records: str) -> bool:
    """Whether it is no path."""
    return "://" in records


def parse_settings(arguments: Sequence[str] | None = None, prog: str = "python -m gateway") -> Settings:
    """The settings of ``python -m gateway``."""
    parser = ArgumentParser(prog=prog, description="The gateway.", default_env=True, env_prefix="CXR")
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below")
    parser.add_class_arguments(Settings)
    parsed = parser.parse_args(arguments)
    return Settings(**{name: getattr(parsed, name) for name in Settings.__dataclass_fields__})
