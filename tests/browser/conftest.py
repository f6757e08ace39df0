"""The page in a real browser, on a real gateway in front of a real TorchServe."""

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydicom.data import get_testdata_file

from handlers.report import Report
from tests.gateway.conftest import Gateway

sync_api = pytest.importorskip("playwright.sync_api", reason="NO BROWSER TESTS: playwright is not installed")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
MISSING = "NO BROWSER TESTS: the page was not looked at. Install chromium ('apt-get install chromium') or set CHROMIUM"
PATIENCE = 60_000.0
"""Milliseconds until a test that waits for the page gives up."""
NIH = Path(__file__).parents[3] / "shared" / "nih-1024" / "images_001" / "images"
DROP = """([target, files]) => {
    const transfer = new DataTransfer();
    for (const { name, data } of files) {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], name));
    }
    for (const kind of ["dragenter", "dragover", "drop"]) {
        document.querySelector(target).dispatchEvent(
            new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }
}"""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not CHROMIUM:
        terminalreporter.write_line(MISSING, yellow=True, bold=True)


@pytest.fixture(scope="package")  # it holds an event loop in this thread, which tests of other folders want
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip(MISSING)
    with sync_api.sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: the folder BROWSER_SHOTS, or one that pytest throws away."""
    folder = Path(os.environ.get("BROWSER_SHOTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def timings(shots: Path) -> Iterator[dict[str, float]]:
    """Seconds by what they were spent on, written to ``timings.json`` beside the screenshots; never asserted."""
    seconds: dict[str, float] = {}
    yield seconds
    (shots / "timings.json").write_text(json.dumps(seconds, indent=2))


class Visitor:
    """A person at the page.

    Attributes:
        page: Playwright's.
        requests: all that the page has sent.
    """

    def __init__(self, page: Any, service: Gateway, shots: Path) -> None:
        self.page, self.service = page, service
        self.requests: list[Any] = []
        self.faults: list[str] = []
        self._shots = shots
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: self.requests.append(request))  # Playwright takes no built-ins
        page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        if "Content Security Policy" in message.text:
            self.faults.append(message.text)

    def open(self, fragment: str | None = None) -> "Visitor":
        self.page.goto(f"{self.service.url}/{f'#key={self.service.key}' if fragment is None else fragment}")
        return self

    def drop(self, *films: Path) -> "Visitor":
        files = [{"name": one.name, "data": base64.b64encode(one.read_bytes()).decode()} for one in films]
        self.page.evaluate(DROP, ["#room", files])
        return self

    def choose(self, *films: Path) -> "Visitor":
        self.page.set_input_files("#chooser", [str(film) for film in films])
        return self

    def wait_for_report(self) -> "Visitor":
        self.page.locator("#report .verdict").wait_for()
        return self

    def wait_for_picture(self) -> "Visitor":
        self.page.locator("#corner-film", has_text="px").wait_for()
        return self

    def wait_for_all(self) -> "Visitor":
        self.page.locator("#progress[data-done]").wait_for(state="attached")
        return self

    def shot(self, name: str, full: bool = False) -> None:
        self.page.screenshot(path=self._shots / f"{name}.png", full_page=full)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    @property
    def focused(self) -> str | None:
        """The id, finding or words of what has the focus; None where nothing has it."""
        return self.page.evaluate(
            "() => { const one = document.activeElement;"
            " return one === document.body ? null : one.id || one.dataset.finding || one.innerText.trim(); }"
        )

    def sent(self, path: str) -> list[Any]:
        return [one for one in self.requests if urlsplit(one.url).path == path]

    def check(self) -> None:
        """Whatever was done: no fault in the page, and no request to another host."""
        here = urlsplit(self.service.url).netloc
        assert [one.url for one in self.requests if urlsplit(one.url).netloc not in (here, "")] == []
        assert self.faults == []


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser, gateway: Gateway, shots: Path) -> Iterator[Visit]:
    """Opens the page as a person with a browser like this would see it."""
    visitors: list[Visitor] = []

    def start(width: int = 1440, height: int = 900, scheme: str = "dark", **settings: Any) -> Visitor:
        viewport = {"width": width, "height": height}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, accept_downloads=True, **settings)
        visitors.append(Visitor(context.new_page(), gateway, shots))
        return visitors[-1]

    yield start
    for one in visitors:
        one.check()
        one.page.context.close()


@pytest.fixture(scope="session")
def nih_films() -> list[Path]:
    if not NIH.exists():
        pytest.skip("the NIH films of ../shared/nih-1024 are not here")
    return sorted(NIH.glob("*.png"))


@pytest.fixture(scope="session")
def dicom() -> Path:
    """1841 x 1955 px."""
    return Path(str(get_testdata_file("RG1_UNCR.dcm")))


@pytest.fixture(scope="session")
def letter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("letters") / "letter.txt"
    path.write_text("Dear colleague")
    return path


@dataclass(frozen=True)
class Known:
    """Films whose reports are known: what the API says of them."""

    routed: Path
    skipped: Path
    reports: dict[Path, Report]


@pytest.fixture(scope="package")
def known(browser, gateway: Gateway, film_paths: list[Path]) -> Known:
    reports: dict[Path, Report] = {}
    for film in film_paths[:30]:
        answer = gateway.read(film.read_bytes())
        reports[film] = Report.model_validate_json(answer.raise_for_status().content)
    routed = next(film for film, report in reports.items() if report.routed)
    skipped = next(film for film, report in reports.items() if not report.routed)
    return Known(routed, skipped, reports)
