"""The part of two operators' resource definitions that ``deploy/kubernetes`` uses, as types that admit nothing else.

Kubernetes' own schemas have no custom resources. The names and types are those of the Prometheus operator's
``monitoring.coreos.com/v1`` and of KEDA's ``keda.sh/v1alpha1``.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

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


KINDS: dict[str, type[Strict]] = {one.__name__: one for one in (ServiceMonitor, PrometheusRule, ScaledObject)}
