"""Where a request comes from."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from fastapi import Request

_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, and from no proxy on it that says it is one."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False
