"""The page of the model card where there are no archives; with them: ``tests/live/test_gateway.py``."""

import asyncio
from pathlib import Path

from gateway.problems import Problem
from gateway.routes import model as module
from tests.gateway.conftest import Gateway
from training.evaluation.model_card import CardError
from workflows.active import WORKFLOW, Active
from workflows.register import archives_of
from workflows.server import Server


def test_without_archives_the_model_card_is_not_ready_and_no_path_of_the_machine_is_told(roomy: Gateway) -> None:
    answer = roomy.get("/model")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:cxr:NotReady")
    assert answer.json()["detail"] == "there is no model card: the archives of chest_xray cannot be read"
    assert "no model card of chest_xray" in roomy.log_text


def test_many_who_ask_at_once_make_the_archives_read_once(tmp_path: Path, monkeypatch) -> None:
    for archive in archives_of(WORKFLOW):
        (tmp_path / archive).write_bytes(b"no archive")
    made: list[str] = []

    def card(store: Path, workflow: str) -> str:
        made.append(workflow)
        if len(made) > 1:
            raise CardError("not an archive")
        return "<p>the card</p>"

    monkeypatch.setattr(module, "model_card_html", card)
    model = module.Model(Server(tmp_path, "", "", "", tmp_path), Active(tmp_path / "active"))

    async def ask() -> list[object]:
        return await asyncio.gather(*(model.show() for _ in range(20)), return_exceptions=True)

    async def work() -> None:
        assert [bytes(answer.body) for answer in await ask()] == [b"<p>the card</p>"] * 20
        assert made == [WORKFLOW]
        (tmp_path / "binary.mar").write_bytes(b"damaged")
        assert {type(answer) for answer in [*await ask(), *await ask()]} == {Problem}
        assert made == [WORKFLOW] * 2

    asyncio.run(work())
