"""The page of the model card; with real archives: ``tests/live/test_gateway.py``."""

from pathlib import Path

import pytest

from gateway.problems import Problem
from gateway.routes.model import Model
from tests.gateway.conftest import Gateway
from workflows.active import Active
from workflows.server import Server
from workflows.store import card_of


def test_without_a_card_the_page_is_not_ready_and_no_path_of_the_machine_is_told(roomy: Gateway) -> None:
    answer = roomy.get("/model")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:cxr:NotReady")
    assert answer.json()["detail"] == "there is no model card of chest_xray: 'make archive' writes one"


def test_the_card_is_that_of_the_pair_that_is_served_as_it_was_deployed(tmp_path: Path) -> None:
    active = Active(tmp_path / "active")
    model = Model(Server(tmp_path, "", "", "", tmp_path), active)
    for name in ("chest_xray", "chest_xray_1a2b3c4d"):
        (tmp_path / card_of(name)).write_text(f"<p>{name}</p>")
    assert bytes(model.show().body) == b"<p>chest_xray</p>"
    active.set("chest_xray_1a2b3c4d")
    answer = model.show()
    assert bytes(answer.body) == b"<p>chest_xray_1a2b3c4d</p>"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    (tmp_path / card_of("chest_xray_1a2b3c4d")).unlink()
    with pytest.raises(Problem, match="there is no model card of chest_xray_1a2b3c4d"):
        model.show()
