"""The part of three operators' resource definitions that ``deploy/kubernetes`` uses, as types that admit nothing else.

Kubernetes' own schemas have no custom resources. The names and types are those of the Prometheus operator's
``monitoring.coreos.com/v1``, of KEDA's ``keda.sh/v1alpha1`` and of KubeRay's ``ray.io/v1``.
"""

from typing import Annotated, Any, Literal

import kubernetes_validate
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Duration = Annotated[str, StringConstraints(pattern=r"^\d+(ms|s|m|h)$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Strict):
    name: str
    namespace: str
    labels: dict[str, str] = {}


class Selector(Strict):
    matchLabels: dict[str, str]  # noqa: N815


class Endpoint(Strict):
    port: str
    path: str
    interval: Duration


class Monitored(Strict):
    selector: Selector
    endpoints: Annotated[list[Endpoint], Field(min_length=1)]


class ServiceMonitor(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]  # noqa: N815
    kind: Literal["ServiceMonitor"]
    metadata: Metadata
    spec: Monitored


class Rule(Strict):
    alert: str
    expr: str
    for_: Annotated[Duration, Field(alias="for")]
    labels: dict[str, str]
    annotations: dict[str, str]


class Group(Strict):
    name: str
    rules: list[Rule]


class Groups(Strict):
    groups: list[Group]


class PrometheusRule(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]  # noqa: N815
    kind: Literal["PrometheusRule"]
    metadata: Metadata
    spec: Groups


class Target(Strict):
    name: str
    apiVersion: str = "apps/v1"  # noqa: N815
    kind: str = "Deployment"


class Fallback(Strict):
    failureThreshold: int  # noqa: N815
    replicas: int


class AutoscalerConfig(Strict):
    behavior: dict[str, Any]
    """As in an autoscaler of Kubernetes itself, by whose schema it is checked."""


class Advanced(Strict):
    horizontalPodAutoscalerConfig: AutoscalerConfig  # noqa: N815


class PrometheusQuery(Strict):
    """KEDA takes text alone."""

    serverAddress: str  # noqa: N815
    query: str
    threshold: str
    ignoreNullValues: Literal["true", "false"]  # noqa: N815


class Trigger(Strict):
    type: Literal["prometheus"]
    metricType: Literal["AverageValue", "Value"]  # noqa: N815
    metadata: PrometheusQuery


class Scaled(Strict):
    scaleTargetRef: Target  # noqa: N815
    minReplicaCount: Annotated[int, Field(ge=1)]  # noqa: N815
    maxReplicaCount: int  # noqa: N815
    pollingInterval: int  # noqa: N815
    fallback: Fallback
    advanced: Advanced
    triggers: Annotated[list[Trigger], Field(min_length=1)]


class ScaledObject(Strict):
    apiVersion: Literal["keda.sh/v1alpha1"]  # noqa: N815
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: Scaled


def _is_template(template: dict[str, Any]) -> dict[str, Any]:
    """A pod's template, by Kubernetes' own schema."""
    metadata = {"name": "pod", **template["metadata"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    kubernetes_validate.validate(pod, "1.37", strict=True)
    return template


Template = Annotated[dict[str, Any], AfterValidator(_is_template)]
Parameters = dict[Literal["num-cpus", "object-store-memory"], str]
"""Of ``ray start``, all text."""


class HeadGroup(Strict):
    rayStartParams: Parameters  # noqa: N815
    template: Template


class WorkerGroup(HeadGroup):
    groupName: str  # noqa: N815
    replicas: Annotated[int, Field(ge=0)]
    minReplicas: Annotated[int, Field(ge=0)]  # noqa: N815
    maxReplicas: Annotated[int, Field(ge=1)]  # noqa: N815


class RayCluster(Strict):
    rayVersion: str  # noqa: N815
    headGroupSpec: HeadGroup  # noqa: N815
    workerGroupSpecs: Annotated[list[WorkerGroup], Field(min_length=1)]  # noqa: N815


class Job(Strict):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "SidecarMode"]  # noqa: N815
    backoffLimit: Annotated[int, Field(ge=0)]  # noqa: N815
    shutdownAfterJobFinishes: bool  # noqa: N815
    ttlSecondsAfterFinished: Annotated[int, Field(ge=0)]  # noqa: N815
    rayClusterSpec: RayCluster  # noqa: N815


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]  # noqa: N815
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: Job


OURS = (ServiceMonitor, PrometheusRule, ScaledObject, RayJob)
KINDS: dict[str, type[Strict]] = {one.__name__: one for one in OURS}
