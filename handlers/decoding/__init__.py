"""Bytes to pixels: PNG, JPEG and DICOM."""
