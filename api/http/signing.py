"""Documents that this service hands out and takes back: signed, so that it need not keep them."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Callable
from typing import Any


class Signer:
    """Signs JSON documents for one purpose and some time with the secret of a database."""

    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._secret, self._clock = secret.encode(), clock

    def sign(self, purpose: str, document: dict[str, Any], seconds: float) -> str:
        """The document as text that fits into an address."""
        document = {**document, "until": int(self._clock() + seconds)}
        body = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        return f"{_text(body)}.{_text(self._mark(purpose, body))}"

    def read(self, purpose: str, text: str) -> dict[str, Any] | None:
        """The document; None for what was not signed for the purpose, or too long ago."""
        written, _, mark = text.partition(".")
        try:
            body, given = _bytes(written), _bytes(mark)
        except (binascii.Error, UnicodeEncodeError):
            return None
        if not hmac.compare_digest(given, self._mark(purpose, body)):
            return None
        document: dict[str, Any] = json.loads(body)
        return document if document["until"] > self._clock() else None

    def _mark(self, purpose: str, body: bytes) -> bytes:
        return hmac.digest(self._secret, purpose.encode() + b"\0" + body, "sha256")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
