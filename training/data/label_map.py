"""What data sets call the 14 findings: the one table by which their labels become ours, and what follows for a film.

A label that is not in the table is counted and named, and plays no part. Labels have three values: 1 (present), 0
(absent) and -1 (``UNLABELLED``: nobody has said). The names are those of

    NIH ChestX-ray14    Wang et al., CVPR 2017
    CheXpert            Irvin et al., AAAI 2019; MIMIC-CXR-JPG has the same (Johnson et al., arXiv:1901.07042)
    VinDr-CXR           Nguyen et al., Scientific Data 2022
    PadChest            Bustos et al., Medical Image Analysis 2020, with the children of each label in its tree
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handlers.findings import FINDINGS, NO_FINDING

UNLABELLED = -1

MAP: dict[str, tuple[str, ...]] = {
    **{name.replace("_", " ").lower(): (name,) for name in FINDINGS},
    "pleural effusion": ("Effusion",),  # CheXpert, MIMIC-CXR-JPG, VinDr-CXR, PadChest
    "pulmonary fibrosis": ("Fibrosis",),  # VinDr-CXR, PadChest
    "infiltrate": ("Infiltration",),  # NIH's boxes
    **dict.fromkeys(  # PadChest from here on
        (
            *("total atelectasis", "lobar atelectasis", "segmental atelectasis", "laminar atelectasis"),
            *("round atelectasis", "atelectasis basal"),
        ),
        ("Atelectasis",),
    ),
    **dict.fromkeys(
        ("loculated pleural effusion", "loculated fissural effusion", "empyema", "hemothorax"), ("Effusion",)
    ),
    "hydropneumothorax": ("Effusion", "Pneumothorax"),
    **dict.fromkeys(
        (
            *("infiltrates", "interstitial pattern", "ground glass pattern", "reticular interstitial pattern"),
            *("reticulonodular interstitial pattern", "miliary opacities", "alveolar pattern"),
        ),
        ("Infiltration",),
    ),
    "pulmonary mass": ("Mass",),
    "multiple nodules": ("Nodule",),
    "atypical pneumonia": ("Pneumonia",),
    "air bronchogram": ("Consolidation",),
    "pulmonary edema": ("Edema",),
    **dict.fromkeys(("apical pleural thickening", "calcified pleural thickening"), ("Pleural_Thickening",)),
    "hiatal hernia": ("Hernia",),
}
"""By a label's ``spelling``, the findings that it says are there. PadChest's tree has *consolidation* below
*infiltrates*; NIH labels the two side by side, and so does this table. *Subcutaneous emphysema* and *mediastinal mass*
are none of the 14."""

SOME_OF_THE_14 = ("lung lesion", "lung opacity", "nodule/mass")
"""Labels of which each means one of the 14 and does not say which: mass or nodule (CheXpert, VinDr-CXR); atelectasis,
consolidation, edema, pneumonia or a lesion (the tree of Irvin et al., figure 1). Where one is present there is a
finding, and none of the 14 is labelled by it."""
NONE = (NO_FINDING.lower(), "normal")
"""The labels that say of a film that nothing was found."""


@dataclass(frozen=True)
class Targets:
    """What a data set's labels say of its films.

    Attributes:
        findings: [N, 1] int8 in {-1, 0, 1}: is any of the 14 present.
        diseases: [N, 14] int8 in {-1, 0, 1}.
        contradictory: [N], whether a film is said to show nothing and a finding; the finding counts.
        unmapped: labels that are none of the 14, each with the number of films that it is present on.
    """

    findings: NDArray[np.int8]
    diseases: NDArray[np.int8]
    contradictory: NDArray[np.bool_]
    unmapped: dict[str, int]


def spelling(label: str) -> str:
    """``Pleural_Thickening`` and `` pleural  Thickening`` are one label."""
    return " ".join(label.replace("_", " ").lower().split())


def is_known(label: str) -> bool:
    return spelling(label) in (*MAP, *SOME_OF_THE_14, *NONE)


def targets_of(labels: pd.DataFrame) -> Targets:
    """[N] rows of a data set's own labels in {-1, 0, 1} -> both stages' targets.

    A film without findings is one that its data set calls so (``No Finding``, ``normal``), or that is labelled for all
    14 and has none of them; a film with any of the 14, or with ``SOME_OF_THE_14``, has a finding; of any other nobody
    has said. Where a film is called free of findings, those of the 14 that the data set labels at all are absent.
    """
    spelt = {column: spelling(column) for column in labels.columns}

    def any_of(columns: list[str]) -> NDArray[np.int8]:
        return any_present(labels[columns].to_numpy(np.int8))

    of = {name: [column for column, spelt_as in spelt.items() if name in MAP.get(spelt_as, ())] for name in FINDINGS}
    diseases = np.stack([any_of(of[name]) for name in FINDINGS], axis=1)
    some = any_of([column for column, spelt_as in spelt.items() if spelt_as in SOME_OF_THE_14])
    none = any_of([column for column, spelt_as in spelt.items() if spelt_as in NONE]) == 1
    shown = (diseases == 1).any(axis=1) | (some == 1)
    labelled_at_all = (diseases != UNLABELLED).any(axis=0)
    free = none & ~shown
    diseases[free[:, None] & labelled_at_all & (diseases == UNLABELLED)] = 0
    findings = np.where(shown, 1, np.where(free, 0, any_present(diseases))).astype(np.int8)
    others = [column for column in labels.columns if not is_known(column)]
    return Targets(findings[:, None], diseases, none & shown, {name: int((labels[name] == 1).sum()) for name in others})


def any_present(labels: NDArray[np.int8]) -> NDArray[np.int8]:
    """[N, L] in {-1, 0, 1} -> [N]: 1 where any is present, 0 where all are absent, else -1, as without any label."""
    if not labels.shape[1]:
        return np.full(len(labels), UNLABELLED, np.int8)
    return np.where((labels == 1).any(axis=1), 1, labels.min(axis=1)).astype(np.int8)
