"""Speaks to the gateway: reads films, scores archives, shows the demo."""
