"""Rolls a new pair of models out, and back, while films are read: the gateway switches between two workflows.

    python -m workflows.roll --store model_store_site     # that store's pair, beside the one that is served
    python -m workflows.roll --back                       # to the pair before
    python -m workflows.roll --retire chest_xray_1a2b3c4d # ends a pair that is not served any more

The new pair's files are copied into the live store under a name of their own, ``chest_xray_`` and 8 digits of
their sha256; it is registered beside the old one, reads one film, and only then gets the films. Both pairs are in
memory until one is retired. A film that is being read stays with the pair that it was sent to.
"""

import argparse
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from workflows import command_line
from workflows.active import NAME, WORKFLOW, Active
from workflows.archivers import run_archiver
from workflows.files.atomic import scratch_folder
from workflows.register import LOAD_LIMIT, LOADING, register
from workflows.server import Server, ServerError
from workflows.store import CARD, archives_of, card_of, check_pair, copy
from workflows.sums import place, write_sums
from workflows.torchserve import held


def roll(server: Server, store: Path) -> str:
    """Serves another store's pair; returns its workflow's name.

    Raises:
        ServerError: the other store's archives are missing or altered, or the pair does not read a film; the pair that
            was served goes on then.
    """
    with held(server):
        name = _copy(store, server.store)
        return _switch(server, name)


def back(server: Server) -> str:
    """Serves the pair that was served before; returns its workflow's name.

    Raises:
        ServerError: there is none, or it does not read a film any more.
    """
    with held(server):
        name = Active.of(server).before()
        if name is None:
            raise ServerError("no other pair was served before this one")
        return _switch(server, name)


def retire(server: Server, name: str) -> None:
    """Ends a workflow that is not served any more, and deletes the copies of its archives.

    Raises:
        ServerError: it is the one that is served, or TorchServe does not know it.
    """
    if not NAME.fullmatch(name):
        raise ServerError(f"{name!r} is no workflow's name")
    with held(server):
        if name == Active.of(server).name():
            raise ServerError(f"{name} is the one that is served: roll to another pair first")
        answer = server.call("DELETE", f"{server.management}/workflows/{name}", "management", timeout=LOAD_LIMIT)
        if not answer.is_success:
            raise ServerError(f"{name} was not ended: {answer.text.strip()}")
        if name != WORKFLOW:  # what a start deploys
            for file in (*archives_of(name), card_of(name)):
                (server.store / file).unlink(missing_ok=True)
            write_sums(server.store, {})
    print(f"retired: {name}", flush=True)


def _switch(server: Server, name: str) -> str:
    print(LOADING, flush=True)
    register(server, name)
    Active.of(server).set(name)
    print(f"served now: {name}", flush=True)
    return name


def _copy(store: Path, into: Path) -> str:
    """Copies a store's pair and its card under its own names, with a workflow to match."""
    sums = check_pair(store)
    name = f"{WORKFLOW}_{hashlib.sha256(''.join(sums[one] for one in archives_of(WORKFLOW)).encode()).hexdigest()[:8]}"
    pair = archives_of(name)[:2]
    names = dict(zip((*pair, card_of(name)), (*archives_of(WORKFLOW)[:2], CARD), strict=True))
    with scratch_folder(into / name) as scratch:
        copy(store, sums, {new: old for new, old in names.items() if old in sums}, scratch)
        _workflow(store / f"{WORKFLOW}.war", name, pair, scratch)
        place([path for path in scratch.iterdir() if path.name in (*archives_of(name), card_of(name))], into)
    return name


def _workflow(war: Path, name: str, pair: tuple[str, str], scratch: Path) -> None:
    """The same workflow under another name and with other archives; its batch sizes and delays stay."""
    with zipfile.ZipFile(war) as packed:
        spec = yaml.safe_load(packed.read(f"{WORKFLOW}.yaml"))
        (scratch / "no_functions.py").write_bytes(packed.read("no_functions.py"))
    for node, archive in zip(("binary", "disease"), pair, strict=True):
        spec["models"][node]["url"] = archive
    (scratch / f"{name}.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    run_archiver(
        scratch,
        "torch-workflow-archiver",
        *("--workflow-name", name, "--spec-file", scratch / f"{name}.yaml"),
        *("--handler", scratch / "no_functions.py", "--export-path", scratch),
    )


def main(arguments: Sequence[str] | None = None, prog: str = "python -m workflows.roll") -> None:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--store", type=Path, metavar="DIR", help="with the new pair, as 'make archive' writes it")
    what.add_argument("--back", action="store_true", help="to the pair before")
    what.add_argument("--retire", metavar="NAME", help="end this workflow")
    parser.add_argument("--server", type=Path, default=Path(), metavar="DIR", help="folder the server was started in")
    chosen = parser.parse_args(arguments)
    server = Server.of_folder(chosen.server)
    if chosen.store:
        roll(server, chosen.store)
    elif chosen.back:
        back(server)
    else:
        retire(server, chosen.retire)


if __name__ == "__main__":
    command_line.run(main)
