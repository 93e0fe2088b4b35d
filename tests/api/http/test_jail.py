"""Where there is no jail, programs that torch reads are taken from this machine alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.http.app import Settings, create_app
from api.jail.jail import Jail
from tests.api.http.inside import StandIn
from tests.api.jobs.plant import wait

_OPEN, _CLOSED = Jail(), Jail(None, 4, True)
_STRANGER, _HERE = ("192.0.2.7", 4711), ("127.0.0.1", 4711)


def _answers(settings: Settings, conv: bytes, client: tuple[str, int], **kw: Any) -> list[int]:
    """The statuses of a plan, of an upload, and of a plan of a lowered program."""

    async def run() -> list[int]:
        app = create_app(settings, StandIn())
        transport = httpx.ASGITransport(app, client=client)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test", **kw) as http,
        ):
            answers = [
                await http.post("/plan", content=conv),
                await http.post("/inputs", content=conv),
                await http.post("/plan", content=b"\0\0\0\0VK00"),
            ]
            if answers[0].status_code == 403:
                assert "takes .pt2 files from its own machine alone" in answers[0].json()["detail"]
                wait(lambda: list(app.state.uploads.root.iterdir()) == [])
            return [answer.status_code for answer in answers]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("jail", "takes_unjailed", "client", "headers", "is_taken"),
    [
        pytest.param(_OPEN, False, _STRANGER, {}, False, id="a stranger"),
        pytest.param(_OPEN, False, _HERE, {}, True, id="this machine"),
        pytest.param(_OPEN, False, ("::1", 4711), {}, True, id="this machine by IPv6"),
        pytest.param(
            _OPEN, False, _HERE, {"X-Forwarded-For": "192.0.2.7"}, False, id="a proxy here"
        ),
        pytest.param(_OPEN, True, _STRANGER, {}, True, id="the operator says so"),
        pytest.param(_CLOSED, False, _STRANGER, {}, True, id="there is a jail"),
    ],
)
def test_who_may_hand_in_an_exported_program(
    conv: bytes,
    scratch: Path,
    jail: Jail,
    takes_unjailed: bool,
    client: tuple[str, int],
    headers: dict[str, str],
    is_taken: bool,
) -> None:
    settings = Settings(jail=jail, takes_unjailed=takes_unjailed)
    found = _answers(settings, conv, client, headers=headers)
    assert found == ([200, 201, 200] if is_taken else [403, 403, 200])


@pytest.mark.parametrize("jail", [_OPEN, Jail("bwrap"), _CLOSED, Jail("bwrap", 7, True)])
def test_what_is_missing_is_said(jail: Jail) -> None:
    said = " ".join(jail.missing())
    assert ("bubblewrap is not installed" in said) == (jail.bubblewrap is None)
    assert ("no Landlock" in said) == (jail.landlock == 0)
    assert ("libseccomp" in said) == (not jail.seccomp)
