"""The lowered graph: read from a VkGraph, checked, and written with a plan in it."""
