"""The page of the model card where there are no archives; with them: ``tests/live/test_gateway.py``."""

from tests.gateway.conftest import Gateway


def test_without_archives_the_model_card_is_not_ready_and_no_path_of_the_machine_is_told(roomy: Gateway) -> None:
    answer = roomy.get("/model")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:cxr:NotReady")
    assert answer.json()["detail"] == "there is no model card: the archives of chest_xray cannot be read"
    assert "no model card of chest_xray" in roomy.log_text
