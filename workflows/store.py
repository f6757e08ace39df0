"""The live store, from which TorchServe serves, and the staging store around it, into which ``make archive`` packs.

A pair that is packed is not served yet: a start of the gateway, or ``workflows.register`` by hand, copies it into the
live store. What TorchServe is started again on after a crash is what it ran on before.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from workflows.active import WORKFLOW, Active
from workflows.files.atomic import scratch_folder
from workflows.server import Server, ServerError
from workflows.sums import check_sums, new_sums, read_sums, sha256_of

CARD = "MODEL_CARD.html"
"""In a store that ``make archive`` has written."""

logger = logging.getLogger(__name__)


def archives_of(workflow: str) -> tuple[str, str, str]:
    """The names of a workflow's three files: those of ``chest_xray_TAG`` end in ``_TAG`` (``workflows.roll``)."""
    tag = workflow.removeprefix(WORKFLOW)
    return f"binary{tag}.mar", f"disease{tag}.mar", f"{workflow}.war"


def card_of(workflow: str) -> str:
    """The name of a workflow's model card in the live store."""
    return f"{workflow}.html"


def pair_id(sums: Mapping[str, str], workflow: str = WORKFLOW) -> str:
    """What tells a workflow's two models from others: 16 hexadecimal digits, "" where one of them has no sum.

    Args:
        sums: SHA-256 by file name. It is the same pair whatever its files are called.
        workflow: a registered one's name.
    """
    digests = [sums.get(name, "") for name in archives_of(workflow)[:2]]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16] if all(digests) else ""


def check_archives(store: Path, workflow: str = WORKFLOW) -> dict[str, str]:
    """The sha256 of a workflow's three files, by name.

    Raises:
        ServerError: one is missing, or is not what 'make archive' wrote.
    """
    return check_sums(store, archives_of(workflow))


def is_staged(server: Server) -> bool:
    """Whether a pair is packed that is not live. Where another was rolled in, that one stays, whatever is packed."""
    staging = server.store.parent
    staged, live, names = read_sums(staging), read_sums(server.store), archives_of(WORKFLOW)
    if not any((staging / name).exists() for name in names):
        return False
    if all(name in staged and staged[name] == live.get(name) and (server.store / name).exists() for name in names):
        return False
    active = Active.of(server).name()
    if active != WORKFLOW:
        logger.warning("%s stays, as it was rolled in; to serve %s: python -m workflows.roll --store", active, staging)
    return active == WORKFLOW


def check_served(server: Server) -> bool:
    """Looks at the pair that a start would serve; returns whether it would deploy that first.

    Raises:
        ServerError: an archive is missing or altered.
    """
    if deploys := is_staged(server):
        check_pair(server.store.parent)
    else:
        check_archives(server.store, Active.of(server).name())
    return deploys


def deploy(server: Server) -> None:
    """Copies the pair that is packed into the live store, all of it or nothing, unless it is there or must wait.

    Raises:
        ServerError: one of its archives is missing or altered; the live store is as it was.
        NotWritten: the disk is full; likewise.
    """
    if not is_staged(server):
        return
    staging, live = server.store.parent, server.store
    sums, there = check_pair(staging), read_sums(live)
    names = {card_of(WORKFLOW) if name == CARD else name: name for name in sums}
    changed = {new: name for new, name in names.items() if there.get(new) != sums[name] or not (live / new).exists()}
    with scratch_folder(live / "deployed") as scratch:
        copy(staging, sums, changed, scratch)
        with new_sums(live, {new: sums[name] for new, name in names.items()}):
            for new in changed:
                (scratch / new).replace(live / new)
            if CARD not in sums:
                (live / card_of(WORKFLOW)).unlink(missing_ok=True)
    logger.info("deployed: %s", staging, extra={"event": "deployed"})


def check_pair(store: Path) -> dict[str, str]:
    """The sha256 of what ``make archive`` packed into a store, by name: the archives and, where it has one, the card.

    Raises:
        ServerError: a file is missing, or is not what 'make archive' wrote.
    """
    return check_sums(store, [*archives_of(WORKFLOW), *({CARD} & read_sums(store).keys())])


def copy(store: Path, sums: Mapping[str, str], names: Mapping[str, str], into: Path) -> None:
    """Copies files of a store under other names.

    Args:
        sums: what the store's files must be, by their name there.
        names: the new name -> the name in the store.

    Raises:
        ServerError: one was changed since its sum was looked at.
    """
    for new, name in names.items():
        shutil.copy(store / name, into / new)
        if sha256_of(into / new) != sums[name]:
            raise ServerError(f"{store / name} was changed while it was copied; run this again")
