"""Measurements on a device: runs, samples, and the costs that are learned from them."""
