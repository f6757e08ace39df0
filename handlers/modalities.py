"""What makes a radiograph, as DICOM names it."""

from typing import Literal

Modality = Literal["CR", "DX", "RG"]
"""Computed and digital radiography, and digitised film (PS3.3, C.7.3.1.1.1)."""
