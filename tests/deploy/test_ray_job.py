"""The job that reads films by the million: its pods, its command, and who reaches them."""

import shlex
import tomllib

import pytest
from packaging.requirements import Requirement

from client.read import FILM_REFUSED
from cluster import pipeline, score
from deploy.runtime_packages import runtime_packages
from tests.deploy import containerfile
from tests.deploy.kustomize import Resource, of_kind, selects
from tests.deploy.pod import ROOT, overlay, quantity

(JOB,) = of_kind(overlay("score"), "RayJob")
(POLICY,) = of_kind(overlay("score"), "NetworkPolicy")
SPEC = JOB["spec"]
HEAD = SPEC["rayClusterSpec"]["headGroupSpec"]
(WORKERS,) = SPEC["rayClusterSpec"]["workerGroupSpecs"]
GROUPS = pytest.mark.parametrize("group", [HEAD, WORKERS], ids=["head", "workers"])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def container_of(group: Resource) -> Resource:
    (one,) = group["template"]["spec"]["containers"]
    return one


def test_its_command_is_one_that_the_module_takes_and_a_refused_film_does_not_fail_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # as Ray sets it for a job
    command, _, otherwise = SPEC["entrypoint"].partition(" || ")
    program, flag, module, *words = shlex.split(command)
    assert (program, flag, module) == ("/srv/cxr-cascade/.venv/bin/python", "-m", "cluster.score")
    chosen = score._parse(words, "score")
    assert chosen.address == "10.0.0.1:6379"
    assert str(chosen.models) in {where for source, where in containerfile.copied() if source == "model_store"}
    assert otherwise == f"[ $? -eq {FILM_REFUSED} ]"
    assert SPEC["backoffLimit"] > 0


@GROUPS
def test_no_container_is_root_or_may_write_to_its_own_files(group: Resource) -> None:
    spec, one = group["template"]["spec"], container_of(group)
    user = int(containerfile.words_of("USER")[-1].split(":")[0])
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == user
    assert spec["automountServiceAccountToken"] is False
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {mount["mountPath"] for mount in one["volumeMounts"]}
    assert mounted == {"/tmp", "/dev/shm"}  # Ray's sessions, its object store
    assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in one["env"]


@GROUPS
def test_its_image_has_the_code_and_the_ray_of_the_manifest(group: Resource) -> None:
    image = container_of(group)["image"]
    assert image == f"cxr-cascade:{PROJECT['version']}-cpu"
    assert "cluster" in {source for source, _ in containerfile.copied()}
    (ray,) = [one for one in map(Requirement, runtime_packages(ROOT / "pyproject.toml")) if one.name == "ray"]
    assert ray.specifier.contains(SPEC["rayClusterSpec"]["rayVersion"])
    assert f"ray=={SPEC['rayClusterSpec']['rayVersion']}" in (ROOT / "requirements.lock").read_text().split()
    # KubeRay starts nodes by a login shell, which knows Debian's own folders alone.
    assert "ln -s /srv/cxr-cascade/.venv/bin/ray /usr/local/bin/ray" in " ".join(containerfile.words_of("RUN"))
    assert containerfile.environment()["PYTHONPATH"] == "/srv/cxr-cascade"


@GROUPS
def test_the_object_store_fits_into_the_shared_memory_and_that_into_the_pod(group: Resource) -> None:
    (shared,) = [one for one in group["template"]["spec"]["volumes"] if one["emptyDir"].get("medium") == "Memory"]
    resources = container_of(group)["resources"]
    assert float(group["rayStartParams"]["object-store-memory"]) <= quantity(shared["emptyDir"]["sizeLimit"])
    assert quantity(shared["emptyDir"]["sizeLimit"]) < quantity(resources["limits"]["memory"])
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    kept = sum(quantity(one["emptyDir"]["sizeLimit"]) for one in group["template"]["spec"]["volumes"])
    assert quantity(resources["limits"]["ephemeral-storage"]) >= kept


def test_the_head_reads_no_film_and_its_actors_fit_where_a_node_dies() -> None:
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    processors = quantity(container_of(WORKERS)["resources"]["limits"]["cpu"])
    # Half of the nodes have twice the decoders and the actors of both stages.
    assert 2 * 3 * processors * pipeline.ACTOR <= processors


def test_ray_s_ports_are_open_to_the_job_and_its_operator_alone() -> None:
    spec = POLICY["spec"]
    for group in (HEAD, WORKERS):
        assert selects(spec["podSelector"]["matchLabels"], group["template"]["metadata"]["labels"])
    own, operator = spec["ingress"]
    assert own["from"] == [{"podSelector": spec["podSelector"]}]
    (label,) = [one["namespaceSelector"]["matchLabels"] for one in operator["from"]]
    assert [port["port"] for port in operator["ports"]] == [8265]
    text = (ROOT / "deploy" / "README.md").read_text()
    assert all(f"{name}={value}" in text for name, value in label.items())
