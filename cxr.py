"""The one command: ``cxr train``, ``cxr serve``, ``cxr read film.png``. ``cxr --help`` lists all.

Each is a module's own command line, imported when it is called for: ``python -m MODULE`` does the same.
"""

import sys
from importlib import import_module
from typing import NamedTuple, NoReturn

from workflows import command_line


class Command(NamedTuple):
    """A module with a ``main(arguments, prog)``, and what it does."""

    module: str
    help: str


COMMANDS = {
    "draw": Command("training.sample_data", "draw synthetic films in NIH's layout"),
    "check-data": Command("training.check", "what a data folder holds, and whether it can be trained on"),
    "pack": Command("training.data.pack", "pack a data folder's films into tar files, for a slow shared disk"),
    "train": Command("training.train", "train one stage of the cascade, or a single model"),
    "sweep": Command("training.sweep", "try training configurations, and go on after a kill"),
    "evaluate": Command("training.evaluate", "choose thresholds and score a run, or any model's table"),
    "predict": Command("training.predict", "one model's probabilities of a split, as a table"),
    "localise": Command("training.localise", "whether heatmaps point to the findings' boxes"),
    "report": Command("training.report.page", "an evaluation as one HTML page"),
    "archive": Command("training.archive", "pack a run into a store"),
    "card": Command("training.evaluation.model_card", "the model card of a store"),
    "recalibrate": Command("training.recalibrate", "refit a store to a site's films"),
    "check": Command("gateway.check", "whether this machine has what serving needs; starts nothing"),
    "serve": Command("gateway.__main__", "the gateway and TorchServe until Ctrl-C (--background: return when ready)"),
    "stop": Command("gateway.background", "drain and end what serves in the background"),
    "register": Command("workflows.register", "register the workflow with a TorchServe started by hand"),
    "roll": Command("workflows.roll", "serve another store's models without losing a film, or go back"),
    "keys": Command("gateway.keys", "make, list and revoke API keys"),
    "feedback": Command("gateway.export_feedback", "what readers said of reports, as a table"),
    "read": Command("client.read", "read films through the gateway"),
    "score": Command("client.score", "read a folder of films through the gateway into a table"),
    "score-cluster": Command("cluster.score", "read films by the million on a Ray cluster, into Parquet files"),
    "pacs": Command("pacs.node", "the DICOM node: films from a PACS in, their reports back (--status, --again)"),
    "dicom-report": Command("pacs.report", "read DICOM films, and write their reports as DICOM objects"),
    "demo": Command("client.demo", "read the demo's three films through the gateway"),
}


def main() -> NoReturn:
    """Runs the command that ``sys.argv`` names."""
    command_line.run(lambda: run(sys.argv[1:]))


def run(words: list[str]) -> int | None:
    """The exit code of a command; 2 where there is none of that name."""
    name, *arguments = words or ["--help"]
    if name in ("-h", "--help"):
        print(_listing())
        return 0
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}\n\n{_listing()}", file=sys.stderr)
        return 2
    module, prog = COMMANDS[name].module, f"cxr {name}"
    if name == "serve" and "--background" in arguments:
        module, prog = "gateway.background", "cxr"
        arguments = ["start", *(word for word in arguments if word != "--background")]
    elif name == "stop":
        prog, arguments = "cxr", ["stop", *arguments]
    return import_module(module).main(arguments, prog)


def _listing() -> str:
    lines = [f"  {name:13} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: cxr COMMAND ...     (cxr COMMAND --help: its options)", "", *lines])


if __name__ == "__main__":
    main()
