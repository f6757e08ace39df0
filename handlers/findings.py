"""The label list of NIH ChestX-ray14, the only one in the project."""

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
"""The 14 findings in NIH's order (Wang et al., CVPR 2017)."""

NO_FINDING = "No Finding"
"""What ``Finding Labels`` says of a film without any of the 14. It is not a finding: no model predicts it."""
