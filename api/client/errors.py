"""What can go wrong between a client and its server."""


class AwayError(Exception):
    """The server does not answer, or cannot answer just now; it may again, later."""
