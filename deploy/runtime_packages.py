"""Prints what a service needs of a ``pyproject.toml``: no tests, no peers. Python 3.11's own library is enough for it.

python deploy/runtime_packages.py pyproject.toml
"""

import sys
import tomllib
from pathlib import Path


def runtime_packages(pyproject: Path) -> list[str]:
    """Requirements as pip reads them: the project's own, and those of its optional parts ``pacs`` and ``cluster``."""
    project = tomllib.loads(pyproject.read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *optional["pacs"], *optional["cluster"]]


if __name__ == "__main__":
    print("\n".join(runtime_packages(Path(sys.argv[1]))))
