"""The networks, and what trains them."""
