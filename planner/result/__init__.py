"""The planned program, and the report of it."""
