"""What repacks and accesses cost: the interface, and device profiles."""
