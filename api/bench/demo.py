"""A model's way through the service, as a user would send it, to its page on the dashboard."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from rich.console import Console

from api.bench import zoo
from api.bench.background import serving
from api.terminal.console import stdout
from api.terminal.plan import plan_table
from planner.errors import PlannerError
from planner.extras import require
from planner.result.report import read_report
from schema import plan

_TIMEOUT = 1800.0


def run(name: str, size: zoo.Size) -> None:
    """Exports a model, has the service plan it, prints the report and the address of its page.

    On a terminal the service then goes on until Ctrl-C; else it stops. Raises ``OptionError`` for a
    model that is not there and ``PlannerError`` if the service fails.
    """
    zoo.chosen([name])
    require("demo", "transformers", "torch", "executorch", "fastapi", "uvicorn", "sqlalchemy")
    console = stdout()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"{name}.pt2"
        console.print(f"exporting {name} ...")
        # In a process of its own: the service, not this one, is what should need torch.
        command = [sys.executable, "-m", "api.cli", "zoo", name, "-o", str(source)]
        if size == "small":
            command.append("--small")
        if subprocess.run(command, check=False).returncode:
            raise PlannerError(f"cannot export {name}")
        with serving(Path(folder)) as service:
            address = service.address
            console.print(f"POST {address}/plan?profile=bytes ({source.stat().st_size:,} bytes)")
            location = _post(console, address, source)
            page = f"{address}/view/{location.rpartition('/')[2]}"
            with urllib.request.urlopen(page, timeout=_TIMEOUT):
                console.print(f"dashboard: {page}", soft_wrap=True, highlight=False)
            # Not what the console thinks: that can be set to take a file for a terminal.
            if sys.stdout.isatty():
                console.print("The service goes on: Ctrl-C ends it.")
                _wait(service.process)


def _wait(service: subprocess.Popen[str]) -> None:
    """Returns when the service ends, or at Ctrl-C."""
    # Whoever sends SIGTERM, as a supervisor does, wants what is in ``finally`` to be done, too.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        service.wait()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, previous)


def _post(console: Console, address: str, source: Path) -> str:
    """Has a program planned, and prints what came of it; returns the path of the plan."""
    request = urllib.request.Request(
        f"{address}/plan?profile=bytes&name={source.name}",
        data=source.read_bytes(),
        headers={"Content-Type": "application/octet-stream"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        location: str = answer.headers["Location"]
        flatbuffer: bytes = answer.read()
    program = plan.decode(flatbuffer)
    console.print(
        f"{len(flatbuffer):,} bytes of planned program for {len(program.delegates)} Vulkan "
        f"delegate{'s' * (len(program.delegates) != 1)}, at {location}"
    )
    with urllib.request.urlopen(f"{address}{location}", timeout=_TIMEOUT) as answer:
        console.print(plan_table(read_report(json.load(answer))))
    return location
