"""A process that shuts itself in: what it runs reaches no file, no network and no other process."""
