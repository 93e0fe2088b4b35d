"""The one exception of this package."""

from __future__ import annotations


class SchemaError(ValueError):
    """Bytes that do not follow their schema, or values that their schema cannot hold.

    The message begins with the place, e.g. ``values[12].value.dims``, if there is one.
    """

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.place = place

    def within(self, outer: str) -> SchemaError:
        """The same error, with its place prefixed by the table or vector around it."""
        dot = "." if self.place and not self.place.startswith("[") else ""
        return SchemaError(self.message, f"{outer}{dot}{self.place}")
