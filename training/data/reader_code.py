"""What turns a film into pixels, as one hash: another decoder is another cache."""

import ast
import hashlib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import handlers

HANDLERS = Path(handlers.__path__[0])
READER = "decoding.image"
"""The module of ``handlers`` in which reading begins."""


def reader_hash() -> str:
    """SHA-256 of every module of ``handlers`` that reading a film imports, and of the versions of the libraries."""
    modules, others = _imported(READER)
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(_path(name).read_bytes())
    distributions = packages_distributions()
    for name in sorted({one for other in others for one in distributions.get(other, [])}):
        digest.update(f"{name} {version(name)}\n".encode())
    return digest.hexdigest()


def _imported(start: str) -> tuple[set[str], set[str]]:
    """Modules of ``handlers`` that one of them imports, itself included, and top-level modules of anything else."""
    modules, others, left = set[str](), set[str](), [start]
    while left:
        if (name := left.pop()) in modules:
            continue
        modules.add(name)
        for imported in _imports(_path(name)):
            package, _, rest = imported.partition(".")
            if package != handlers.__name__:
                others.add(package)
            elif _path(rest).exists():  # not a package, nor a name inside a module
                left.append(rest)
    return modules, others


def _path(name: str) -> Path:
    return HANDLERS.joinpath(*name.split(".")).with_suffix(".py")


def _imports(path: Path) -> list[str]:
    """Dotted names; of ``from a import b`` both ``a`` and ``a.b``, as ``b`` may be a module."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names
