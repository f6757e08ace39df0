"""The table of codes against pydicom's tables of PS3.16."""

import re

import pytest
from pydicom.sr import _concepts_dict
from pydicom.sr.coding import Code

from handlers.findings import LABELS
from pacs import codes

ALL = {name: code for name, code in vars(codes).items() if isinstance(code, Code)} | codes.FINDING_CODES
PUBLIC = sorted(name for name, code in ALL.items() if code.scheme_designator != codes.SCHEME)
PRIVATE = sorted(name for name, code in ALL.items() if code.scheme_designator == codes.SCHEME)


def meanings(scheme: str) -> dict[str, set[str]]:
    """What pydicom calls each code of a scheme."""
    found: dict[str, set[str]] = {}
    for entries in _concepts_dict.concepts[scheme].values():
        for value, (meaning, _) in entries.items():
            found.setdefault(value, set()).add(re.sub(r" \((attribute|qualifier value)\)$", "", meaning).lower())
    return found


def test_every_finding_has_a_code_of_its_own() -> None:
    assert tuple(codes.FINDING_CODES) == LABELS
    assert len({(code.scheme_designator, code.value) for code in codes.FINDING_CODES.values()}) == len(LABELS)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_code_is_in_pydicom_s_tables_and_means_the_same_there(name: str) -> None:
    code = ALL[name]
    assert code.meaning.lower() in meanings(code.scheme_designator)[code.value]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Pneumothorax", "36118008"),
        ("Effusion", "60046008"),
        ("Nodule", "27925004"),
        ("Mass", "4147007"),
        ("Edema", "19242006"),
        ("Fibrosis", "112674009"),
        ("Infiltration", "112121"),
    ],
)
def test_findings_that_have_an_exact_free_code_have_it(name: str, value: str) -> None:
    assert codes.FINDING_CODES[name].value == value
    assert codes.FINDING_CODES[name].scheme_designator in ("SCT", "DCM")


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_code_fits_its_element_and_no_public_one_has_its_meaning(name: str) -> None:
    code = ALL[name]
    assert re.fullmatch(r"[A-Z_]{1,16}", code.value)
    assert len(code.meaning) <= 64
    named = {value for scheme in ("SCT", "DCM") for value, words in meanings(scheme).items() if code.meaning in words}
    assert named <= {"287272002"}


def test_what_pydicom_calls_cardiomegaly_is_another_thing_and_not_used() -> None:
    assert "enlarged septal foramen of heart (disorder)" in meanings("SCT")["287272002"]
    assert "287272002" not in {code.value for code in ALL.values()}


def test_the_private_scheme_is_declared_by_its_name() -> None:
    declared = codes.scheme_declaration()
    assert (declared.CodingSchemeDesignator, declared.CodingSchemeName) == ("99CXRC", "CXR Cascade codes")
