"""What ``/docs`` says of the routes under ``/v1``."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Query, Security
from fastapi.security import HTTPBearer

from gateway.body import FIELD, FORM
from gateway.problems import MEDIA_TYPE, ProblemDocument
from gateway.report_forms import DICOM_FILE, DICOM_FILES, FHIR_JSON

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
FORMAT = Query(
    description="`json`; `dicom-sr`, the report as a Structured Report of the film's study (`application/dicom`); "
    '`dicom-sc`, a Secondary Capture for each heatmap (`multipart/related; type="application/dicom"`, as in DICOMweb, '
    "of one part too); `dicom-seg`, the heatmaps' regions as one Segmentation (`application/dicom`); `fhir`, a "
    "transaction of FHIR R4 (`application/fhir+json`). Where it is not given, `Accept` says which by its media type. "
    "DICOM is made of DICOM films alone; the same film and models make objects of the same UIDs. `dicom-sc` and "
    "`dicom-seg` want `heatmaps`, and are 204 where the film has none.",
    examples=["dicom-sr"],
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
    "pixels are of one, two or three shades. `NotReportable`: it is no DICOM file, or has no UIDs that a DICOM object "
    "could name it by. `NotAChestFilm`, only where the service is told to refuse: unlike the films that the models "
    "learned from, turned or inverted.",
    429: "`QueueFull`: as many films are being read or wait as the server may hold. No byte of the body was read.",
    501: "`NotInstalled`: the service lacks the packages that make this format.",
    503: "`Busy`: the film waited too long for those before it. `NotReady`: the models are not up, or the gateway is "
    "going down. `NotServed`: the models gave no answer. All with Retry-After. `InternalError`: a fault in the "
    "service, without.",
    504: "`DeadlinePassed`: the report took too long.",
}

FEEDBACK_REASONS = {
    400: "`MalformedFeedback`: no such document, or one that contradicts itself. `UnknownFinding`.",
    401: REASONS[401],
    403: "`AnotherKeysReport`: the report was given to another key.",
    404: "`UnknownReport`: no report has this id, or it was given too long ago.",
    408: REASONS[408],
    409: "`FeedbackGiven`: the report was judged before; that stands.",
    413: "`BodyTooLarge`.",
    415: "`UnsupportedMediaType`: not JSON.",
    503: "`NotStored`: it could not be written down, and nothing of it is kept. With Retry-After.",
}
DRIFT_REASONS = {
    400: "`MalformedRequest`: `days` is no number of days for which films are counted. `UnknownParameter`.",
    401: REASONS[401],
    404: "`NoReference`: the archives were made before they held validation films' histograms.",
}

_REQUEST_ID = {"X-Request-ID": {"description": "the request's id", "schema": {"type": "string"}}}
_RETRY_AFTER = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def problem(status: int, reason: str) -> dict[str, Any]:
    """What ``/docs`` says of an answer with a problem document."""
    return {
        "description": reason,
        "headers": _REQUEST_ID | (_RETRY_AFTER if status in (429, 503) else {}),
        "content": {MEDIA_TYPE: {"schema": ProblemDocument.model_json_schema()}},
    }


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The film was read.", "headers": _REQUEST_ID},
    **{status: problem(status, reason) for status, reason in REASONS.items() if status != 501},
}
IN_FORMS: dict[int | str, dict[str, Any]] = RESPONSES | {
    200: RESPONSES[200]
    | {
        "content": {
            DICOM_FILE: _BINARY,
            f'{DICOM_FILES}; type="{DICOM_FILE}"': _BINARY,
            FHIR_JSON: {"schema": {"type": "object", "description": "a Bundle"}},
        }
    },
    204: {"description": "The film was read, and has no heatmap to show.", "headers": _REQUEST_ID},
    501: problem(501, REASONS[501]),
}
"""Of a report in a form of ``gateway.report_forms``; FastAPI adds the JSON."""

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
