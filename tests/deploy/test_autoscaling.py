"""Replicas follow the gateway's own metrics, by the Prometheus adapter or KEDA, and Prometheus sees each pod once."""

import re
import shutil

import kubernetes_validate
import pytest
import yaml
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.settings import Settings
from tests.deploy.kustomize import Resource, of_kind, selects
from tests.deploy.pod import KUBERNETES, ROOT, overlay, quantity

(MONITOR,) = of_kind(overlay("monitoring"), "ServiceMonitor")
(DEPLOYMENT,) = of_kind(overlay("cpu"), "Deployment")
(AUTOSCALER,) = of_kind(overlay("autoscaling"), "HorizontalPodAutoscaler")
(SCALED,) = of_kind(overlay("keda"), "ScaledObject")
ADAPTER = yaml.safe_load((KUBERNETES / "overlays" / "autoscaling" / "prometheus-adapter-values.yaml").read_text())
(MADE,) = ADAPTER["rules"]["custom"]
(TRIGGER,) = SCALED["spec"]["triggers"]


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names that the gateway shows to Prometheus."""
    folder = tmp_path_factory.mktemp("gateway")
    shutil.copy(ROOT / "config.properties", folder)
    answer = TestClient(create_app(Settings(server=folder, secrets=folder))).get("/metrics")
    return set(re.findall(r"^# TYPE (\w+)", answer.text, re.MULTILINE))


@pytest.mark.parametrize(
    "query", [MADE["seriesQuery"] + MADE["metricsQuery"], TRIGGER["metadata"]["query"]], ids=["adapter", "keda"]
)
def test_replicas_follow_the_films_per_slot_by_metrics_that_exist(query: str, metrics: set[str]) -> None:
    named = set(re.findall(r"\bcxr_\w+", query))
    assert named == {"cxr_gateway_in_flight", "cxr_gateway_waiting", "cxr_gateway_slots"}
    assert named <= metrics


def test_the_autoscaler_asks_for_what_the_adapter_makes() -> None:
    (metric,) = AUTOSCALER["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == MADE["name"]["as"]
    assert re.match(MADE["name"]["matches"], MADE["seriesQuery"].partition("{")[0])


def test_keda_s_autoscaler_is_the_same_and_one_that_kubernetes_takes() -> None:
    spec, theirs = SCALED["spec"], AUTOSCALER["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    kubernetes_validate.validate({**AUTOSCALER, "spec": {**theirs, "behavior": behavior}}, "1.37", strict=True)
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (theirs["minReplicas"], theirs["maxReplicas"])
    assert behavior["scaleDown"] == theirs["behavior"]["scaleDown"]
    (metric,) = theirs["metrics"]
    target = metric["pods"]["target"]
    assert TRIGGER["metricType"] == target["type"]
    assert float(TRIGGER["metadata"]["threshold"]) == quantity(target["averageValue"])
    namespaces = re.findall(r'namespace="([^"]+)"', TRIGGER["metadata"]["query"])
    assert set(namespaces) == {DEPLOYMENT["metadata"]["namespace"]}


@pytest.mark.parametrize("scaler", [AUTOSCALER, SCALED], ids=["adapter", "keda"])
def test_each_scales_the_deployment_which_names_no_number_itself(scaler: Resource) -> None:
    assert scaler["spec"]["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]
    assert scaler["metadata"]["namespace"] == DEPLOYMENT["metadata"]["namespace"]
    assert "replicas" not in DEPLOYMENT["spec"]


def test_prometheus_scrapes_each_pod_once() -> None:
    labels = MONITOR["spec"]["selector"]["matchLabels"]
    services = of_kind(overlay("cpu"), "Service")
    (service,) = [one for one in services if selects(labels, one["metadata"]["labels"])]
    (endpoint,) = MONITOR["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"
    assert MONITOR["metadata"]["namespace"] == service["metadata"]["namespace"]


def test_prometheus_operator_has_the_same_alerts() -> None:
    (rule,) = of_kind(overlay("monitoring"), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())
