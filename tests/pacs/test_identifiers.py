"""UIDs that follow from what an object says."""

import re

import pytest

from handlers.report import ModelVersions
from pacs.identifiers import uid_of

MODELS = ModelVersions(binary="1.0.0", disease="1.0.0+synthetic")


def test_the_same_film_models_and_kind_have_the_same_uid_for_good() -> None:
    assert uid_of("1.2.3", MODELS, "sr") == "2.25.206162535321655705525553438010025143638"


@pytest.mark.parametrize(
    ("film", "models", "kind"),
    [
        ("1.2.4", MODELS, "sr"),
        ("1.2.3", ModelVersions(binary="1.0.1", disease="1.0.0+synthetic"), "sr"),
        ("1.2.3", ModelVersions(binary="1.0.0", disease="1.0.0"), "sr"),
        ("1.2.3", MODELS, "sr series"),
    ],
)
def test_another_film_model_or_kind_has_another(film: str, models: ModelVersions, kind: str) -> None:
    assert uid_of(film, models, kind) != uid_of("1.2.3", MODELS, "sr")


@pytest.mark.parametrize("kind", ["sr", "sc Effusion", "seg series"])
def test_it_is_a_uid_as_the_standard_wants_it(kind: str) -> None:
    uid = uid_of("1.2.3", MODELS, kind)
    assert uid.is_valid
    assert re.fullmatch(r"2\.25\.[1-9][0-9]{0,38}", uid)
