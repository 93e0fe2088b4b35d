"""Tables and pictures of the command line."""
