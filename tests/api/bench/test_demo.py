"""``make run`` on a terminal: the service goes on, so that its page can be looked at."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import httpx
import pytest


@pytest.mark.lowering
def test_on_a_terminal_the_page_can_be_looked_at_until_ctrl_c() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        # A session of its own, with this terminal: what is typed there reaches it.
        ["setsid", "--ctty", sys.executable, "-m", "api.cli", "demo", "unet", "--small"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    try:
        while b"Ctrl-C" not in said:
            said += os.read(ours, 4096)
        found = re.search(rb"dashboard: (http://\S+)", said)
        assert found is not None
        page = found[1].decode()
        answer = httpx.get(page)
        assert answer.status_code == 200 and "unet.pt2" in answer.text
        os.write(ours, b"\x03")
        assert process.wait(60) == 0
    finally:
        process.kill()
        os.close(ours)
    with pytest.raises(httpx.ConnectError):
        httpx.get(page)
