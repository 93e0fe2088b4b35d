"""Timed programs in the formats of other viewers: Perfetto and Model Explorer."""
