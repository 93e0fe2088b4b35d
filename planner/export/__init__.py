"""Timed programs in the formats of other viewers."""
