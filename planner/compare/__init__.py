"""Two programs, plans or runs side by side."""
