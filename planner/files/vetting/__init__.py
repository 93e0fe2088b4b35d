"""Exported programs (``.pt2``), read without torch: what is not known to be harmless is refused."""
