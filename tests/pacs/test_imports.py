"""Imports run one way: what makes objects imports ``handlers``, what speaks to the network ``client`` as well."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "pacs"
MAKERS = {"codes", "identifiers", "film_attributes", "heatmap_picture"} | {
    "structured_report",
    "secondary_capture",
    "segmentation",
    "fhir",
    "forms",
}
OURS = {"handlers", "workflows", "client", "gateway", "training", "pacs", "benchmarks", "tests"}


def imported(path: Path) -> set[str]:
    """The project's modules that a module imports anywhere in it."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {
                f"{node.module}.{name.name}" if node.module == "pacs" else str(node.module) for name in node.names
            }
        elif isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
    return {name for name in names if name.partition(".")[0] in OURS}


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_what_makes_objects_imports_handlers_and_its_like(name: str) -> None:
    allowed = {f"pacs.{maker}" for maker in MAKERS}
    for module in imported(FOLDER / f"{name}.py"):
        assert module in allowed or module.partition(".")[0] == "handlers", module


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_the_network_s_side_imports_neither_gateway_nor_training(path: Path) -> None:
    assert {module.partition(".")[0] for module in imported(path)} <= {"handlers", "workflows", "client", "pacs"}
