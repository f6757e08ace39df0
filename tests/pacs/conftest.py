"""Says aloud which of others' programs are missing, by which the objects are checked."""

import shutil
from typing import Any

DCIODVFY = "DCIODVFY IS NOT INSTALLED, objects are not checked against the standard: apt-get install dicom3tools"
DSRDUMP = "DSRDUMP IS NOT INSTALLED, no second reader checks the reports: apt-get install dcmtk"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for program, said in (("dciodvfy", DCIODVFY), ("dsrdump", DSRDUMP)):
        if not shutil.which(program):
            terminalreporter.write_line(said, yellow=True, bold=True)
