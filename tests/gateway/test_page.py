"""The page's files: what they are allowed to do, and what they hold."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from gateway.routes.page_files import FOLDER
from tests.gateway.conftest import Gateway

VENDOR = Path(__file__).parents[1] / "browser" / "vendor"
OWN = sorted(one for one in FOLDER.iterdir() if one.suffix in (".js", ".css", ".html", ".svg"))


def test_the_page_stands_at_the_root(roomy: Gateway) -> None:
    response = roomy.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>CXR Cascade</title>" in response.text
    assert "Research use only." in response.text
    assert "Not a medical device" in response.text


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/style.css", "/page/vendor/jspdf.umd.min.js"])
def test_a_browser_may_load_nothing_from_elsewhere(roomy: Gateway, path: str) -> None:
    headers = roomy.get(path).headers
    policy = dict(one.strip().split(" ", 1) for one in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["img-src"] == "'self' blob: data:"
    assert policy["frame-ancestors"] == "'none'"
    assert not {"script-src", "style-src", "connect-src"} & policy.keys()
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("path", "kind"), [("app.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")]
)
def test_files_have_their_types(roomy: Gateway, path: str, kind: str) -> None:
    assert roomy.get(f"/page/{path}").headers["content-type"].startswith(kind)


@pytest.mark.parametrize("path", ["/page/", "/page/nothing.js", "/page/../page.py", "/page/%2e%2e/page.py"])
def test_nothing_else_is_served(roomy: Gateway, path: str) -> None:
    assert roomy.get(path).status_code == 404


def test_every_module_that_is_imported_is_there() -> None:
    found = [
        (one.name, name) for one in OWN for name in re.findall(r'(?:from|import\() ?"\./([^"]+)"', one.read_text())
    ]
    assert found
    assert [one for one in found if not (FOLDER / one[1]).is_file()] == []


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_the_page_s_own_files_name_no_other_host_and_write_no_markup(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//[a-z0-9-]+\.[a-z]{2,}", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
    assert not re.search(r'\son[a-z]+="|\sstyle="|<style', text)


@pytest.mark.parametrize("folder", [FOLDER / "vendor", VENDOR], ids=["page", "tests"])
def test_vendored_libraries_are_those_that_were_pinned(folder: Path) -> None:
    listed = dict(re.findall(r"`([\w.-]+\.js)`.*?`sha384-([^`]+)`", (folder / "README.md").read_text()))
    digests = {
        one.name: base64.b64encode(hashlib.sha384(one.read_bytes()).digest()).decode() for one in folder.glob("*.js")
    }
    assert digests == listed
    assert list(folder.glob("LICENSE*"))
