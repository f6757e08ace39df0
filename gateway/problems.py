"""What the gateway answers instead of a report: problem documents (RFC 9457), one table of all of its own."""

import re
from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

from pydantic import Field
from starlette.responses import Response

from handlers.report import Refusal, Schema

MEDIA_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """The HTTP status of a problem, and how the request is counted."""

    status: int
    outcome: str


OWN = {
    "MalformedRequest": Kind(400, "rejected"),
    "MalformedForm": Kind(400, "rejected"),
    "UnknownParameter": Kind(400, "rejected"),
    "MalformedFeedback": Kind(400, "rejected"),
    "UnknownFinding": Kind(400, "rejected"),
    "EmptyRequest": Kind(400, "refused"),
    "Unauthorized": Kind(401, "unauthorized"),
    "AnotherKeysReport": Kind(403, "rejected"),
    "NotFound": Kind(404, "rejected"),
    "UnknownReport": Kind(404, "rejected"),
    "NoReference": Kind(404, "rejected"),
    "MethodNotAllowed": Kind(405, "rejected"),
    "UploadTooSlow": Kind(408, "rejected"),
    "FeedbackGiven": Kind(409, "rejected"),
    "BodyTooLarge": Kind(413, "rejected"),
    "NotAChestFilm": Kind(422, "refused"),
    "UnsupportedMediaType": Kind(415, "rejected"),
    "NotReportable": Kind(422, "refused"),
    "QueueFull": Kind(429, "full"),
    "NotInstalled": Kind(501, "rejected"),
    "Busy": Kind(503, "full"),
    "NotReady": Kind(503, "not_ready"),
    "NotServed": Kind(503, "failed"),
    "NotStored": Kind(503, "failed"),
    "InternalError": Kind(503, "failed"),
    "DeadlinePassed": Kind(504, "deadline"),
}
"""By type. ``NotServed`` (TorchServe gave no report) carries Retry-After, ``InternalError`` (a fault in the gateway, or
one that a node caught) does not: the same film may well meet it again."""


class ProblemDocument(Schema):
    """RFC 9457, section 3."""

    type: str = Field(description="`urn:cxr:` and a stable name", examples=["urn:cxr:UnreadableImage"])
    title: str = Field(description="the name in words", examples=["Unreadable image"])
    status: int = Field(description="the HTTP status", examples=[400])
    detail: str = Field(description="what was wrong with this request, for a person")
    instance: str = Field(description="the request's id, as in X-Request-ID and in the log")


class Problem(Exception):
    """A request that gets no report.

    Args:
        type: a key of ``OWN``, or the cascade's ``error.type``.
        detail: for a person; never shown in the log.
        kind: status and outcome, where ``type`` is not in ``OWN``.
        retry_after: seconds; rounded up to whole ones in the header.
        headers: others that go with the answer.
    """

    def __init__(
        self,
        type: str,
        detail: str,
        kind: Kind | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.type, self.detail = type, detail
        self.status, self.outcome = kind or OWN[type]
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, ceil(retry_after)))

    @classmethod
    def of_refusal(cls, refusal: Refusal) -> "Problem":
        """The cascade's own words; its code is the status, but for a fault inside it, which is 503."""
        error = refusal.error
        kind = OWN["InternalError"] if refusal.fault else Kind(error.code, "refused")
        return cls(error.type, error.message, kind)

    def response(self, request_id: str) -> Response:
        document = ProblemDocument(
            type=f"urn:cxr:{self.type}",
            title=re.sub(r"(?<!^)(?=[A-Z])", " ", self.type).capitalize(),
            status=self.status,
            detail=self.detail,
            instance=request_id,
        )
        return Response(document.model_dump_json(), self.status, self.headers, MEDIA_TYPE)
