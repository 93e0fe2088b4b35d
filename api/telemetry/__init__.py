"""What is told of the work to those who run it: logs, and traces."""
