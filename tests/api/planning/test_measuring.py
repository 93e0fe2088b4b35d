"""A run is read where other programs may be run, in each jail."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from api.jail.jail import Jail
from api.jail.limits import Limits
from api.planning.measuring import ReadRun
from api.planning.pool import Pool
from tests.api.http.test_devices import etdump, program
from tests.api.planning.processes import until_none_plans

_HERE = Jail.of_machine()

pytestmark = pytest.mark.server


@pytest.mark.parametrize(
    "jail",
    [
        pytest.param(_HERE, id="all of it"),
        pytest.param(Jail(None, _HERE.landlock, _HERE.seccomp), id="without bubblewrap"),
    ],
)
def test_a_run_is_read_in_the_jail(jail: Jail, tmp_path: Path) -> None:
    (tmp_path / "run.etdump").write_bytes(etdump("greedy"))
    (tmp_path / "net.pte").write_bytes(program("greedy"))
    work = ReadRun(
        *(tmp_path / "run.etdump", "run", tmp_path / "net.pte", "net.pte"),
        *(tmp_path / "bare", tmp_path / "output"),
    )
    asyncio.run(Pool(1, 600, jail, Limits(2**32, 600)).run(work))
    assert json.loads((tmp_path / "output").read_bytes())
    assert (tmp_path / "bare").stat().st_size > 0
    asyncio.run(until_none_plans())
