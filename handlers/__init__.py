"""Runs the models: bytes to pixels, pixels to probabilities, probabilities to a report.

Travels whole inside every model archive, so nothing here imports ``training`` or ``workflows``.
"""
