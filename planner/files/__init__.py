"""Files that people have: what kind each is, and what it holds."""
