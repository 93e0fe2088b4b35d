"""The processes that plan."""
