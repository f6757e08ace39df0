"""``GET /health/live`` and ``/health/ready``."""

from fastapi import Response
from pydantic import Field

from gateway.admission import Admission
from gateway.records import Records
from gateway.supervisor import Supervisor
from handlers.report import Schema
from workflows.active import Active


class Live(Schema):
    """The process runs."""

    live: bool = Field(description="always true")


class Readiness(Schema):
    """Whether films are taken, and how many are admitted."""

    ready: bool = Field(description="the workflow is registered, a film has gone through, and the gateway stays")
    torchserve: str = Field(description="`starting`, `ready`, `failing` or `restarting`")
    workflow: str = Field(description="the name that films go to")
    precision: dict[str, str] | None = Field(
        description="by stage, `float32` or `bfloat16`: what the model computed the last film in; null before the first"
    )
    in_flight: int = Field(description="films that TorchServe has")
    waiting: int = Field(description="films that wait until TorchServe has fewer")
    draining: bool = Field(description="no more films are taken; those that are admitted are finished")
    records_written: bool = Field(
        description="whether what is noted of reports was last written; films are taken all the same"
    )
    keeps_films: bool = Field(description="whether films are kept after they were read")


class Health:
    """What a load balancer asks."""

    def __init__(
        self, admission: Admission, supervisor: Supervisor, active: Active, records: Records, keeps_films: bool
    ) -> None:
        self._admission, self._supervisor, self._active = admission, supervisor, active
        self._records, self._keeps_films = records, keeps_films

    async def live(self) -> Live:
        return Live(live=True)

    async def ready(self, response: Response) -> Readiness:
        """503 with the same document where films are not taken."""
        models = self._supervisor.models
        state = Readiness(
            ready=self._supervisor.ready and not self._admission.closed,
            torchserve=self._supervisor.state,
            workflow=self._active.name(),
            precision=models.precisions if models else None,
            in_flight=self._admission.in_flight,
            waiting=self._admission.waiting,
            draining=self._admission.closed,
            records_written=self._records.written,
            keeps_films=self._keeps_films,
        )
        response.status_code = 200 if state.ready else 503
        return state
