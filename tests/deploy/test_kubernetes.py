"""The manifests are what Kubernetes takes, and what the gateway needs: each number follows from its settings."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from gateway import listener
from gateway.background import END_LIMIT
from gateway.keys import KEYS_FILE, make
from gateway.settings import Settings
from tests.deploy import containerfile
from tests.deploy.custom_resources import KINDS
from tests.deploy.kustomize import Resource, containers_of, of_kind, render, selects
from tests.deploy.pod import KUBERNETES, ROOT, SECRETS, Pod, overlay, quantity
from workflows import foreground
from workflows.server import read_settings

WITH_PODS = ("cpu", "gpu")
COMPONENTS = ("models-volume", "postgresql-records")
OVERLAYS = (*WITH_PODS, "monitoring", "autoscaling", "keda", "score")
VERSIONS = ("1.31", "1.34", "1.37")
"""Of Kubernetes: from the oldest with all that is used here to the newest that the validator knows."""
OPERATIONS = " ".join((ROOT / "OPERATIONS.md").read_text().split())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TORCHSERVE = read_settings(ROOT)
ADDRESSES = ("inference_address", "management_address", "metrics_address")
CLOSED = {int(TORCHSERVE[name].rpartition(":")[2]) for name in ADDRESSES} | {
    int(TORCHSERVE[name]) for name in ("grpc_inference_port", "grpc_management_port")
}
KUSTOMIZE = [command for command in (["kustomize", "build"], ["kubectl", "kustomize"]) if shutil.which(command[0])]


@pytest.fixture(params=WITH_PODS)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return overlay(request.param)


@pytest.fixture
def pod(resources: list[Resource]) -> Pod:
    return Pod.of(resources)


@pytest.fixture
def settings(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return pod.settings(monkeypatch, containerfile.environment())


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A copy of the manifests, to be spoiled."""
    return shutil.copytree(KUBERNETES, tmp_path / "kubernetes")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_kubernetes_takes_every_resource_and_knows_every_field(name: str, version: str) -> None:
    for resource in overlay(name):
        if resource["kind"] in KINDS:
            KINDS[resource["kind"]].model_validate(resource)
        else:
            kubernetes_validate.validate(resource, version, strict=True)


def test_a_field_that_is_misspelt_is_found(scratch: Path) -> None:
    def spoil(file: str, old: str, new: str) -> None:
        path = scratch / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    spoil("base/deployment.yaml", "readinessProbe:", "readynessProbe:")
    (deployment,) = of_kind(render(scratch / "overlays" / "cpu"), "Deployment")
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)
    spoil("overlays/monitoring/servicemonitor.yaml", "interval: 15s", "intervall: 15s")
    (monitor,) = of_kind(render(scratch / "overlays" / "monitoring"), "ServiceMonitor")
    with pytest.raises(ValidationError, match="intervall"):
        KINDS["ServiceMonitor"].model_validate(monitor)


@pytest.mark.parametrize("name", [*OVERLAYS, *COMPONENTS])
@pytest.mark.parametrize("command", KUSTOMIZE, ids=" ".join)
def test_kustomize_makes_the_same_of_them(command: list[str], name: str, scratch: Path) -> None:
    folder = scratch / "overlays" / name
    if name in COMPONENTS:
        use_component(scratch, name)
        folder = scratch / "overlays" / "cpu"
    done = subprocess.run([*command, folder], capture_output=True, text=True, check=True)
    theirs = re.sub(r"(name: cxr-cascade-torchserve)-[0-9a-z]{10}$", r"\1", done.stdout, flags=re.MULTILINE)

    def sort(resources: Any) -> list[Resource]:
        return sorted(resources, key=lambda one: (one["kind"], one["metadata"]["name"]))

    assert sort(yaml.safe_load_all(theirs)) == sort(render(folder))


def use_component(kubernetes: Path, name: str) -> None:
    """As deploy/README.md says."""
    line = re.search(rf"`(components: \S*/{name}\])`", (ROOT / "deploy" / "README.md").read_text())
    assert line is not None
    with (kubernetes / "overlays" / "cpu" / "kustomization.yaml").open("a") as file:
        file.write(f"{line[1]}\n")


def test_models_come_from_a_volume_where_that_is_wanted_and_are_not_written_to(scratch: Path) -> None:
    use_component(scratch, "models-volume")
    resources = render(scratch / "overlays" / "cpu")
    pod = Pod.of(resources)
    assert pod.volume("/models")["persistentVolumeClaim"] == {"claimName": "cxr-cascade-models", "readOnly": True}
    assert "cxr-cascade-models" in {one["metadata"]["name"] for one in of_kind(resources, "PersistentVolumeClaim")}
    for resource in resources:
        kubernetes_validate.validate(resource, VERSIONS[-1], strict=True)


def test_records_are_shared_where_that_is_wanted_and_only_the_database_is_reached(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_component(scratch, "postgresql-records")
    resources = render(scratch / "overlays" / "cpu")
    for resource in resources:
        kubernetes_validate.validate(resource, VERSIONS[-1], strict=True)
    pod = Pod.of(resources)
    settings = pod.settings(monkeypatch, containerfile.environment())
    ((secret, told),) = SECRETS.items()
    assert settings.records_place == told["url"]
    assert settings.films_folder.is_relative_to(settings.server)
    assert settings.records_number == 10 * Settings().records_number
    readme = " ".join((ROOT / "deploy" / "README.md").read_text().split())
    assert re.findall(r"create secret generic (\S+) [^`]*--from-file=(\w+)=records\.url", readme) == [(secret, *told)]
    assert not of_kind(resources, "PersistentVolumeClaim")
    assert {one["mountPath"] for one in pod.container["volumeMounts"]} >= {str(settings.server), "/tmp"}
    assert "records" not in {one["name"] for one in (*pod.container["volumeMounts"], *pod.spec["volumes"])}
    (policy,) = of_kind(resources, "NetworkPolicy")
    reached = {port["port"]: rule["to"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert reached.keys() == {5432, 53}
    (database,) = reached[5432]
    assert [f"{name}={value}" for name, value in database["podSelector"]["matchLabels"].items()] == re.findall(
        r"([\w-]+/records=\w+)", readme
    )


def test_no_container_is_root_or_may_write_to_its_own_files(resources: list[Resource], pod: Pod) -> None:
    user = int(containerfile.words_of("USER")[-1].split(":")[0])
    assert user > 0
    assert pod.spec["securityContext"]["runAsNonRoot"] is True
    assert pod.spec["securityContext"]["runAsUser"] == user
    assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod.spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys()
    assert all(not volume.keys() & {"hostPath"} for volume in pod.spec["volumes"])
    for container in containers_of(resources):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_image_has_the_project_s_version_and_says_for_which_machine(resources: list[Resource]) -> None:
    images = {container["image"] for container in containers_of(resources)}
    assert images <= {f"cxr-cascade:{PROJECT['version']}-{variant}" for variant in ("cpu", "cuda")}
    (deployment,) = of_kind(resources, "Deployment")
    on_gpu = "nvidia.com/gpu" in Pod.of([deployment]).container["resources"]["limits"]
    assert images == {f"cxr-cascade:{PROJECT['version']}-{'cuda' if on_gpu else 'cpu'}"}


def test_probes_ask_the_gateway_where_it_listens(pod: Pod, settings: Settings) -> None:
    (port,) = pod.container["ports"]
    assert (port["name"], port["containerPort"], settings.host) == ("http", settings.port, "0.0.0.0")
    asked = {name: pod.container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert asked == {
        "startup": {"path": "/health/live", "port": "http"},
        "readiness": {"path": "/health/ready", "port": "http"},
        "liveness": {"path": "/health/live", "port": "http"},
    }
    assert containerfile.words_of("EXPOSE") == [str(settings.port)]


def test_the_grace_period_lets_every_film_be_answered_and_torchserve_end(pod: Pod, settings: Settings) -> None:
    program, seconds = pod.container["lifecycle"]["preStop"]["exec"]["command"]
    films = settings.upload_limit + settings.max_wait + settings.deadline
    end = max(films, listener.LINGER) + listener.LAST_ANSWERS + foreground.END_LIMIT
    assert program == "sleep"
    assert int(seconds) + end <= pod.spec["terminationGracePeriodSeconds"] <= END_LIMIT
    # A pod is not ready, and so in no Service, before its films are refused.
    assert int(seconds) >= pod.container["readinessProbe"]["periodSeconds"]


def test_memory_and_disk_are_asked_for_as_they_were_measured(pod: Pod, settings: Settings) -> None:
    jvm, worker, decoder = (
        float(re.search(said, OPERATIONS)[1]) * unit  # type: ignore[index]
        for said, unit in (
            (r"Plan ([\d.]+) GB of memory for the JVM", 1e9),
            (r"about (\d+) GB for each of the two workers with ViT-B/16", 1e9),
            (r"a decoder process of its own \(about (\d+) MB", 1e6),
        )
    )
    processors = int(pod.environment()["OMP_NUM_THREADS"])
    in_the_gateway = min(4, processors)
    needed = jvm + 2 * worker + (processors + 2 * in_the_gateway) * decoder
    given = pod.container["resources"]
    assert quantity(given["requests"]["memory"]) >= needed
    held = (settings.max_in_flight + settings.max_waiting) * settings.max_bytes
    assert quantity(given["limits"]["memory"]) >= needed + held
    copies, models = 2, 2 * 86e6 * 4  # live, and as the workers unpack them; ViT-B/16 in float32
    assert quantity(given["requests"]["ephemeral-storage"]) >= copies * models
    kept = sum(quantity(one["emptyDir"]["sizeLimit"]) for one in pod.spec["volumes"] if "emptyDir" in one)
    assert quantity(given["limits"]["ephemeral-storage"]) >= kept
    assert given["limits"].keys() == given["requests"].keys()


def test_threads_go_by_the_limit_not_by_the_node(pod: Pod) -> None:
    limit = quantity(pod.container["resources"]["limits"]["cpu"])
    assert pod.environment()["OMP_NUM_THREADS"] == str(int(limit)) == f"{limit:g}"


def test_no_variable_of_a_cluster_s_own_becomes_a_setting(pod: Pod) -> None:
    assert pod.spec["enableServiceLinks"] is False
    fields = {f"CXR_{name.upper()}" for name in Settings.__dataclass_fields__}
    assert {name for name in pod.environment() if name.startswith("CXR_")} <= fields


def test_what_is_written_lies_on_volumes_and_what_is_kept_on_one_that_stays(pod: Pod, settings: Settings) -> None:
    mounts = {one["mountPath"] for one in pod.container["volumeMounts"] if not one.get("readOnly")}
    assert mounts == {str(settings.server), os.environ["HOME"], "/tmp", "/records"}
    assert "emptyDir" in pod.volume(str(settings.server)).keys() & pod.volume("/tmp").keys()
    records = Path(settings.records_place)
    assert records.is_relative_to("/records")
    assert os.environ["POD_NAME"] in records.parts
    assert settings.films_folder == records.parent / "films"
    assert "persistentVolumeClaim" in pod.volume("/records")
    assert pod.volume(str(settings.secrets))["secret"]["defaultMode"] & 0o007 == 0


def test_every_name_that_is_referred_to_is_there(resources: list[Resource], pod: Pod) -> None:
    there = {(one["kind"], one["metadata"]["name"]) for one in resources}
    made = re.findall(r"kubectl create secret generic (\S+)", (ROOT / "deploy" / "README.md").read_text())
    there |= {("Secret", name) for name in made}
    wanted = set()
    for volume in pod.spec["volumes"]:
        wanted |= {("ConfigMap", volume[key]["name"]) for key in volume if key == "configMap"}
        wanted |= {("Secret", volume[key]["secretName"]) for key in volume if key == "secret"}
        wanted |= {
            ("PersistentVolumeClaim", volume[key]["claimName"]) for key in volume if key == "persistentVolumeClaim"
        }
    assert {kind for kind, _ in wanted} == {"ConfigMap", "Secret", "PersistentVolumeClaim"}
    assert wanted <= there
    volumes = [volume["name"] for volume in pod.spec["volumes"]]
    assert sorted(mount["name"] for mount in pod.container["volumeMounts"]) == sorted(volumes)
    assert len({one["metadata"]["namespace"] for one in resources}) == 1


def test_torchserve_s_settings_are_the_project_s(resources: list[Resource], pod: Pod) -> None:
    (settings,) = of_kind(resources, "ConfigMap")
    assert settings["data"] == {"config.properties": (ROOT / "config.properties").read_text()}
    assert dict(containerfile.copied())["config.properties"] == "/etc/cxr-cascade/config.properties"
    assert pod.volume("/etc/cxr-cascade")["configMap"]["name"] == settings["metadata"]["name"]


def test_selectors_select_the_pods(resources: list[Resource], pod: Pod) -> None:
    (deployment,) = of_kind(resources, "Deployment")
    assert selects(deployment["spec"]["selector"]["matchLabels"], pod.labels)
    (budget,) = of_kind(resources, "PodDisruptionBudget")
    assert selects(budget["spec"]["selector"]["matchLabels"], pod.labels)
    assert budget["spec"]["maxUnavailable"] == 1
    for service in of_kind(resources, "Service"):
        assert selects(service["spec"]["selector"], pod.labels)
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]
    for spread in pod.spec["topologySpreadConstraints"]:
        assert selects(spread["labelSelector"]["matchLabels"], pod.labels)
    assert {one["topologyKey"] for one in pod.spec["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }


def test_only_the_gateway_s_port_is_open_and_nothing_goes_out(resources: list[Resource], pod: Pod) -> None:
    (policy,) = of_kind(resources, "NetworkPolicy")
    spec = policy["spec"]
    assert selects(spec["podSelector"]["matchLabels"], pod.labels)
    assert (set(spec["policyTypes"]), spec["egress"]) == ({"Ingress", "Egress"}, [])
    named = {port["name"]: port["containerPort"] for port in pod.container["ports"]}
    opened = {named.get(port["port"], port["port"]) for rule in spec["ingress"] for port in rule["ports"]}
    assert opened == {8000}
    assert sorted(CLOSED) == [7070, 7071, 8080, 8081, 8082]
    assert not opened & CLOSED
    assert all({} not in rule["from"] and rule["from"] for rule in spec["ingress"])


def test_a_reader_s_words_reach_the_pod_that_gave_the_report(resources: list[Resource]) -> None:
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(resources, "Service")}
    assert services["cxr-cascade-page"]["sessionAffinity"] == "ClientIP"
    assert services["cxr-cascade"].get("sessionAffinity", "None") == "None"  # one sender must not fill one pod


def test_the_readme_s_commands_name_what_is_there(resources: list[Resource]) -> None:
    text = (ROOT / "deploy" / "README.md").read_text()
    assert set(re.findall(r"kubectl apply -k (\S+?)`?\s", text)) == {
        f"deploy/kubernetes/overlays/{name}" for name in OVERLAYS if name != "gpu"
    }
    assert set(re.findall(r"--namespace (\S+)", text)) == {one["metadata"]["namespace"] for one in resources}
    (deployment,) = of_kind(resources, "Deployment")
    assert set(re.findall(r"kubectl scale deployment (\S+)", text)) == {deployment["metadata"]["name"]}
    (policy,) = of_kind(resources, "NetworkPolicy")
    (label,) = [one["namespaceSelector"]["matchLabels"] for one in policy["spec"]["ingress"][0]["from"][1:]]
    assert [f"{name}={value}" for name, value in label.items()] == re.findall(r"(\S+/reaches-gateway=\w+)", text)
    tags = {container["image"] for name in WITH_PODS for container in containers_of(overlay(name))}
    assert set(re.findall(r"\bcxr-cascade:[\w.-]+", text)) == tags


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_the_readme_s_secret_is_the_one_that_a_pod_reads(pod: Pod, settings: Settings, tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "README.md").read_text()
    (line,) = re.findall(r"^kubectl create secret generic cxr-cascade-keys .*$", text, re.MULTILINE)
    make(tmp_path / "secrets" / KEYS_FILE, "ward-3")
    command = [*line.split(), "--dry-run=client", "-o", "yaml"]
    secret = yaml.safe_load(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout)
    assert secret["metadata"]["name"] == pod.volume(str(settings.secrets))["secret"]["secretName"]
    assert list(secret["data"]) == [KEYS_FILE]
