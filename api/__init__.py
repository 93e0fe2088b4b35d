"""The faces of the product: the HTTP service and the command line."""
