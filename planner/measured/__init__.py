"""What a device measured: runs, samples, and the costs that are learned from them."""
