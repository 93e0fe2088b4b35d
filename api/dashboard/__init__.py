"""The dashboard: pages that show what was planned, what repacks cost, and what changed."""
