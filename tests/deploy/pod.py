"""One pod of a rendered overlay: what its container is told, and how much it may have."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings, parse_settings
from tests.deploy.kustomize import Resource, containers_of, render

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
POD_NAME = "cxr-cascade-7c9d8b5f6-x2x4z"
SECRETS = {"cxr-cascade-records": {"url": "postgresql://cxr:a-password@database/cxr"}}
"""Those that variables are of."""
UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}


def overlay(name: str) -> list[Resource]:
    """What ``kubectl apply -k`` would send of an overlay."""
    return render(KUBERNETES / "overlays" / name)


def quantity(text: str | int) -> float:
    """Of Kubernetes': processors, bytes, a metric's value."""
    found = re.fullmatch(r"([\d.]+)(\w*)", str(text))
    assert found, text
    return float(found[1]) * UNITS[found[2]]


@dataclass(frozen=True)
class Pod:
    """The Deployment's.

    Attributes:
        spec: of the pod.
        container: the only one.
        labels: of the pod.
    """

    spec: Mapping[str, Any]
    container: Mapping[str, Any]
    labels: Mapping[str, str]

    @classmethod
    def of(cls, resources: Sequence[Resource]) -> "Pod":
        (deployment,) = [one for one in resources if one["kind"] == "Deployment"]
        (container,) = containers_of(resources)
        template = deployment["spec"]["template"]
        return cls(template["spec"], container, template["metadata"]["labels"])

    def environment(self) -> dict[str, str]:
        """As the kubelet would make it: references to the pod, to its limits, to Secrets and to variables before."""
        told: dict[str, str] = {}
        for one in self.container["env"]:
            if "value" in one:
                value = re.sub(r"\$\((\w+)\)", lambda found: told[found[1]], one["value"])
            elif "fieldRef" in one["valueFrom"]:
                assert one["valueFrom"]["fieldRef"] == {"fieldPath": "metadata.name"}
                value = POD_NAME
            elif "secretKeyRef" in one["valueFrom"]:
                value = SECRETS[one["valueFrom"]["secretKeyRef"]["name"]][one["valueFrom"]["secretKeyRef"]["key"]]
            else:
                kind, _, name = one["valueFrom"]["resourceFieldRef"]["resource"].partition(".")
                value = str(int(quantity(self.container["resources"][kind][name])))
            told[one["name"]] = value
        return told

    def settings(self, monkeypatch: pytest.MonkeyPatch, of_image: Mapping[str, str]) -> Settings:
        """The gateway's in it, as it reads them itself; the pod's words go before the image's."""
        for name, value in {**of_image, **self.environment()}.items():
            monkeypatch.setenv(name, value)
        return parse_settings([])

    def volume(self, path: str) -> Mapping[str, Any]:
        """What is mounted at a path."""
        (mount,) = [one for one in self.container["volumeMounts"] if one["mountPath"] == path]
        (volume,) = [one for one in self.spec["volumes"] if one["name"] == mount["name"]]
        return volume
