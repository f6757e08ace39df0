"""``python -m training.report``: see ``training.report.page``."""

from training.report.page import main
from workflows import command_line

if __name__ == "__main__":
    command_line.run(main)
