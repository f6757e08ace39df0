"""What ``/docs`` says of the routes under ``/v1``."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Query, Security
from fastapi.security import HTTPBearer

from gateway.body import FIELD, FORM
from gateway.problems import MEDIA_TYPE, ProblemDocument

DESCRIPTION = """A chest film in, what the two models see in it out. Research use, not a medical device.

Every answer carries `X-Request-ID`: the request's own (letters, digits, `.`, `_`, `-`; 64 at most), or a new one. It
stands in the log, so put nothing of a patient in it. Everything under `/v1` wants a key, the other pages do not."""

BEARER = Security(HTTPBearer(auto_error=False, description="a key of `python -m gateway.keys make`"))
"""That a route wants a key; ``gateway.request_path`` looks at it."""
HEATMAPS = Query(
    description="Findings by name, with commas between, or `all-present` for those that the report calls present. "
    "Without it no heatmap is made. The maps of films that are read together share 8 seconds; one that is not done by "
    "then is not in the report.",
    examples=["Effusion,Mass", "all-present"],
)

REASONS = {
    400: "The film is refused (`EmptyRequest`, `UnreadableImage`, `TruncatedImage`, …), or the request is "
    "(`MalformedForm`, `MalformedRequest`, `UnknownParameter`, `UnknownFinding`).",
    401: "`Unauthorized`: no key, two, or one that is unknown or revoked. No byte of the body was read.",
    404: "`NotFound`: no such page.",
    405: "`MethodNotAllowed`: only POST.",
    408: "`UploadTooSlow`: the body was not all there in time.",
    413: "`BodyTooLarge`, or `ImageTooLarge`: too many pixels.",
    415: "`UnsupportedMediaType`: a Content-Type or Content-Encoding that is not taken. `UnsupportedTransferSyntax`.",
    422: "`NotARadiograph`: the file was read, but is no chest film. `BlankImage`: it shows nothing, almost all of its "
    "pixels are of one, two or three shades. `NotAChestFilm`, only where the service is told to refuse: unlike the "
    "films that the models learned from, turned or inverted.",
    429: "`QueueFull`: as many films are being read or wait as the server may hold. No byte of the body was read.",
    503: "`Busy`: the film waited too long for those before it. `NotReady`: the models are not up, or the gateway is "
    "going down. `NotServed`: the models gave no answer. All with Retry-After. `InternalError`: a fault in the "
    "service, without.",
    504: "`DeadlinePassed`: the report took too long.",
}

_REQUEST_ID = {"X-Request-ID": {"description": "the request's id", "schema": {"type": "string"}}}
_RETRY_AFTER = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": REASONS[status],
        "headers": _REQUEST_ID | (_RETRY_AFTER if status in (429, 503) else {}),
        "content": {MEDIA_TYPE: {"schema": ProblemDocument.model_json_schema()}},
    }


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The film was read.", "headers": _REQUEST_ID},
    **{status: _problem(status) for status in REASONS},
}

REQUEST: dict[str, Any] = {
    "parameters": [
        {
            "name": "X-Request-ID",
            "in": "header",
            "description": "an id of your own for this request",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        }
    ],
    "requestBody": {
        "required": True,
        "description": f"One film, PNG, JPEG or DICOM: the body itself, or the form field `{FIELD}` and no other.",
        "content": {
            "application/octet-stream": _BINARY,
            "application/dicom": _BINARY,
            "image/*": _BINARY,
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {FIELD: _BINARY["schema"]},
                    "required": [FIELD],
                    "additionalProperties": False,
                }
            },
        },
    },
}


def add_post(
    app: FastAPI, path: str, endpoint: Callable[..., Any], summary: str, description: str, **differs: Any
) -> None:
    """A route that takes films, with what ``/docs`` says of it; ``differs`` are FastAPI's arguments."""
    common: dict[str, Any] = {"responses": RESPONSES, "openapi_extra": REQUEST, "dependencies": [BEARER]} | differs
    app.add_api_route(path, endpoint, methods=["POST"], summary=summary, description=description, **common)
