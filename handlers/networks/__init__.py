"""Pixels to logits, and to heatmaps."""
