"""The manual, and what makes its drawings."""
