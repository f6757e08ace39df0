"""The servers under test: ours, and its peers as their own documentation shows them."""
