"""What is known of one request while it goes its way."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

NO_ROUTE = "none"
"""The ``path`` of requests that no route takes: as they were written, they must reach neither log nor metrics."""


@dataclass
class RequestContext:
    """One request, or one film of a study, until its line in the log is written.

    Attributes:
        id: the client's X-Request-ID, or a new one.
        path: of its route, such as ``/v1/reports``.
        event: ``request``, or ``film`` for one of a study.
        key: whose key it came with.
        type: of the problem, where there was one.
        bytes: of its films.
        milliseconds: by stage.
        workflow: that its film went to.
        held: what is given back at its end: that it is admitted.
    """

    id: str
    path: str = NO_ROUTE
    method: str = ""
    event: str = "request"
    key: str | None = None
    status: int | None = None
    type: str | None = None
    routed: bool | None = None
    bytes: int | None = None
    workflow: str | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    held: ExitStack = field(default_factory=ExitStack)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measures a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.milliseconds[stage] = round((time.perf_counter() - began) * 1000.0, 1)
