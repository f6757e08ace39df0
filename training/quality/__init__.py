"""Fits and measures the checks of a film that go into a binary archive."""
