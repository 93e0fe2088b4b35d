"""The costs of repacks and accesses: the interface, and device profiles."""
