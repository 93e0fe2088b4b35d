"""Jobs: many programs, each with many options, planned durably by worker processes."""
