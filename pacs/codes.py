"""The codes of the objects, the only such table: what a finding and a statement about it are called in DICOM.

A code of SNOMED CT (``SCT``) is one of the subset that PS3.16 holds and that is free in DICOM objects, and says exactly
what NIH's label says. Where there is none, as for atelectasis, of which that subset knows only the plate-like kind, or
for cardiomegaly, whose code there is another thing's, the code is of a private scheme, which every object declares
(PS3.3, C.12.1.1.7.1).
"""

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.coding import Code

from handlers.findings import FINDING

SCHEME = "99CXRC"
SCHEME_NAME = "CXR Cascade codes"


def _private(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, meaning)


FINDING_CODES: dict[str, Code] = {
    FINDING: _private("ANY_FINDING", "Any of 14 findings"),
    "Atelectasis": _private("ATELECTASIS", "Atelectasis"),
    "Cardiomegaly": _private("CARDIOMEGALY", "Cardiomegaly"),
    "Effusion": Code("60046008", "SCT", "Pleural effusion"),
    "Infiltration": Code("112121", "DCM", "Infiltrate"),
    "Mass": Code("4147007", "SCT", "Mass"),
    "Nodule": Code("27925004", "SCT", "Nodule"),
    "Pneumonia": _private("PNEUMONIA", "Pneumonia"),
    "Pneumothorax": Code("36118008", "SCT", "Pneumothorax"),
    "Consolidation": _private("CONSOLIDATION", "Consolidation"),
    "Edema": Code("19242006", "SCT", "Pulmonary edema"),
    "Emphysema": _private("EMPHYSEMA", "Emphysema"),
    "Fibrosis": Code("112674009", "SCT", "Fibrosis"),
    "Pleural_Thickening": _private("PLEURAL_THICKEN", "Pleural thickening"),
    "Hernia": _private("HERNIA", "Hernia"),
}
"""By the names of ``handlers.findings``."""

PROBABILITY = Code("122157", "DCM", "Probability")
OPERATING_POINT = _private("OPERATING_POINT", "Operating point")
"""The probability from which on a finding is called present. DCM's "CAD Operating Point" is a rank, not a value."""
PRESENCE = Code("121052", "DCM", "Presence of property")
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")
NO_UNITS = Code("1", "UCUM", "no units")

COMMENT = Code("121106", "DCM", "Comment")
DEVICE = Code("121007", "DCM", "Device")
PLAIN_RADIOGRAPHY = Code("168537006", "SCT", "Plain radiography")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
SOURCE = Code("260753009", "SCT", "Source")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")


def scheme_declaration() -> CodingSchemeIdentificationItem:
    """What an object says of the private scheme."""
    return CodingSchemeIdentificationItem(SCHEME, name=SCHEME_NAME, responsible_organization="CXR Cascade")
