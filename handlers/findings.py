"""The labels of both stages, the only such lists in the project."""

FINDINGS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""Stage 2's labels: NIH ChestX-ray14's findings in NIH's order (Wang et al., CVPR 2017)."""

FINDING = "Finding"
"""Stage 1's one label: any of the 14."""

STAGE_LABELS: dict[str, tuple[str, ...]] = {"binary": (FINDING,), "disease": FINDINGS}
"""Each stage's outputs, in order."""

LABELS = (FINDING, *FINDINGS)
"""Both stages' outputs side by side."""

NO_FINDING = "No Finding"
"""What ``Finding Labels`` says of a film without any of the 14. It is not a finding: no model predicts it."""
