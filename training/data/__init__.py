"""Films, labels and splits, from a folder in NIH's layout to pixels."""
