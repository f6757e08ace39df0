"""Reports as DICOM objects and as FHIR, where a request asks for them: which form it is, and the answer in it.

``pacs`` makes them, in processes of their own: that takes the film's own attributes, which may be hostile, and packages
that a gateway without a PACS can do without.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from uuid import uuid4

from python_multipart.multipart import parse_options_header
from starlette.responses import Response

from gateway.problems import Problem
from handlers.decoding.containers import is_dicom
from handlers.decoding.process_pool import ProcessPool
from handlers.processors import processors
from handlers.refusals import RefusedFilm
from handlers.report import Refusal, Report

JSON, SR, SC, SEG, FHIR = "json", "dicom-sr", "dicom-sc", "dicom-seg", "fhir"
"""Values of ``format``; all but the first are ``pacs.forms``'."""
FORMS = (JSON, SR, SC, SEG, FHIR)
PACKAGES = ("highdicom", "fhir")
DICOM_FILE, DICOM_FILES, FHIR_JSON = "application/dicom", "multipart/related", "application/fhir+json"
ACCEPTED = {DICOM_FILE: SR, DICOM_FILES: SC, FHIR_JSON: FHIR} | dict.fromkeys(
    ("application/json", "application/*", "*/*"), JSON
)
"""By media type (PS3.18, 8.7.3 and 8.7.4; FHIR R4, 2.21.0.6)."""
CPU_SECONDS = 30.0
"""Processor time for one answer: a large film, compressed, with 14 heatmaps."""


def form_asked(accept: str, options: dict[str, str]) -> str:
    """One of ``FORMS``: what ``format`` names, which is taken out of ``options``, or else what ``Accept`` likes best.

    A type that is not known here is passed over, and JSON is the answer where none is: as RFC 9110, 12.5.1, allows.

    Raises:
        Problem: UnknownParameter: no such form, or heatmaps where it shows none, or none where it shows nothing else.
    """
    form = options.pop("format", None) or _accepted(accept)
    if form not in FORMS:
        raise Problem("UnknownParameter", f"format={form[:40]!r} is not known here: name one of {', '.join(FORMS)}")
    if form in (SC, SEG) and "heatmaps" not in options:
        raise Problem("UnknownParameter", f"{form} shows heatmaps: say which with 'heatmaps'")
    if form in (SR, FHIR) and "heatmaps" in options:
        raise Problem("UnknownParameter", f"{form} shows no heatmaps: leave 'heatmaps' out, or ask for {SC} or {SEG}")
    return form


def _accepted(accept: str) -> str:
    """The form of the known media type with the highest weight, of equal ones the first (RFC 9110, 12.5.1)."""
    best, form = 0.0, JSON
    for media_range in accept.split(","):
        media_type, parameters = parse_options_header(media_range.strip())
        known = ACCEPTED.get(media_type.decode("latin-1").lower())
        if known and (weight := _weight(parameters)) > best:
            best, form = weight, known
    return form


def _weight(parameters: Mapping[bytes, bytes]) -> float:
    try:
        return float(parameters.get(b"q", b"1"))
    except ValueError:
        return 0.0


class ReportForms:
    """Makes answers side by side, as many at once as there are processors, up to four; more wait."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(min(4, processors()), "report forms")  # each waits for its process
        self._processes = ProcessPool("pacs.forms:form_of", CPU_SECONDS)

    def check(self, form: str, film: bytes) -> None:
        """Before the models read a film.

        Raises:
            Problem: NotInstalled; NotReportable where a DICOM object is asked for of a film that is no DICOM file.
        """
        if form != JSON and not all(map(find_spec, PACKAGES)):
            raise Problem("NotInstalled", f"this service makes no {form}: its optional packages 'pacs' are missing")
        if form in (SR, SC, SEG) and not is_dicom(film[:256]):
            said = "the film is no DICOM file: a report as a DICOM object is of the film's own study"
            raise Problem("NotReportable", said)

    async def answer(self, form: str, film: bytes, report: Report) -> Response:
        """The report in a form. SC is ``multipart/related``, a part for each heatmap; 204 where there is none to show.

        Raises:
            Problem: NotReportable, or the decoder's refusal.
        """
        if form == JSON:
            return Response(report.model_dump_json(), media_type="application/json")
        boundary = uuid4().hex if form == SC else ""
        make = partial(self._processes.call, film, form=form, report=report.model_dump_json(), boundary=boundary)
        try:
            body: bytes = await asyncio.get_running_loop().run_in_executor(self._threads, make)
        except RefusedFilm as refused:
            refusal = Refusal.because(refused.code, refused.type, refused.message)
            raise Problem.of_refusal(refusal) from None
        if not body:
            return Response(status_code=204)
        of_several = f'{DICOM_FILES}; type="{DICOM_FILE}"; boundary={boundary}'
        media_type = {SC: of_several, FHIR: FHIR_JSON}.get(form, DICOM_FILE)
        return Response(body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})
