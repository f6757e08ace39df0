"""What Kustomize makes of ``deploy/kubernetes``: the few of its features that are used there, and an error for others.

A generated ConfigMap keeps its name here; Kustomize adds a hash of what is in it.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]

HEADER = {"apiVersion", "kind", "namespace"}


def render(folder: Path) -> list[Resource]:
    """The resources of a folder with a ``kustomization.yaml``.

    Raises:
        ValueError: it uses what is not known here.
    """
    resources: list[Resource] = []
    _apply(folder, resources)
    return resources


def _apply(folder: Path, resources: list[Resource]) -> None:
    told = dict(yaml.safe_load((folder / "kustomization.yaml").read_text()))
    for name in told.pop("resources", []):
        path = folder / name
        resources += render(path) if path.is_dir() else [one for one in yaml.safe_load_all(path.read_text()) if one]
    for name in told.pop("components", []):  # before the folder's own patches
        _apply(folder / name, resources)
    for one in told.pop("configMapGenerator", []):
        data = {name: (folder / name).read_text() for name in one["files"]}
        resources.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": one["name"]}, "data": data})
    for one in told.pop("patches", []):
        operations = yaml.safe_load(one["patch"])
        if "target" not in one:
            _delete(resources, operations)
            continue
        for resource in _targets(resources, one["target"]):
            _patch(resource, operations)
    for one in told.pop("images", []):
        for container in containers_of(resources):
            name, _, _ = container["image"].rpartition(":")
            if name == one["name"]:
                container["image"] = f"{one.get('newName', name)}:{one['newTag']}"
    for resource in resources if "namespace" in told else []:
        resource["metadata"]["namespace"] = told["namespace"]
    if told.keys() - HEADER:
        raise ValueError(f"{folder}: not known here: {told.keys() - HEADER}")


def containers_of(resources: Sequence[Resource]) -> list[Resource]:
    """All containers of all pod templates, those that come first included."""
    found = []
    for resource in resources:
        spec = resource.get("spec", {}).get("template", {}).get("spec", {})
        found += [*spec.get("initContainers", []), *spec.get("containers", [])]
    return found


def of_kind(resources: Sequence[Resource], kind: str) -> list[Resource]:
    """Those of a kind."""
    return [one for one in resources if one["kind"] == kind]


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether ``matchLabels`` fits something with these labels; an empty one would fit all, and is none here."""
    return bool(selector) and selector.items() <= labels.items()


def _targets(resources: Sequence[Resource], target: dict[str, str]) -> list[Resource]:
    found = [one for one in resources if (one["kind"], one["metadata"]["name"]) == (target["kind"], target["name"])]
    if len(found) != 1 or target.keys() != {"kind", "name"}:
        raise ValueError(f"{len(found)} resources are {target}")
    return found


def _delete(resources: list[Resource], patch: Resource) -> None:
    """A strategic merge patch that does nothing else."""
    if patch.keys() != {"$patch", "apiVersion", "kind", "metadata"} or patch["$patch"] != "delete":
        raise ValueError(f"not known here: {patch}")
    for resource in _targets(resources, {"kind": patch["kind"], "name": patch["metadata"]["name"]}):
        resources.remove(resource)


def _patch(resource: Resource, operations: Sequence[dict[str, Any]]) -> None:
    """JSON Patch (RFC 6902), without "move" and "copy"."""
    for one in operations:
        *parents, last = [word.replace("~1", "/").replace("~0", "~") for word in one["path"].split("/")[1:]]
        place: Any = resource
        for word in parents:
            place = place[int(word)] if isinstance(place, list) else place[word]
        value = copy.deepcopy(one.get("value"))
        at: Any = int(last) if isinstance(place, list) and last != "-" else last
        there = at < len(place) if isinstance(at, int) else at in place
        if one["op"] == "add" and isinstance(place, list):
            place.insert(len(place) if at == "-" else at, value)
        elif one["op"] == "add" or (one["op"] == "replace" and there):
            place[at] = value
        elif one["op"] == "remove" and there:
            del place[at]
        elif one["op"] == "test" and there:
            if place[at] != value:
                raise ValueError(f"it is {place[at]!r}: {one}")
        else:
            raise ValueError(f"not known here, or nothing to replace: {one}")
