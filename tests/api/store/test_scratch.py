"""What is not to be kept is removed, however its process ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from api.store.scratch import scratch_in

_HOLD = """
import sys
from pathlib import Path
from api.store.scratch import scratch_in
with scratch_in(Path(sys.argv[1])) as folder:
    (folder / "upload").write_bytes(bytes(1000))
    print(folder, flush=True)
    sys.stdin.read()
"""


def _held(data_dir: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process with a folder of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def _folders(data_dir: Path) -> set[Path]:
    return {path for path in (data_dir / "scratch").iterdir() if path.is_dir()}


def test_what_a_killed_process_left_goes_and_what_others_use_stays(tmp_path: Path) -> None:
    killed, left = _held(tmp_path)
    running, used = _held(tmp_path)
    assert _folders(tmp_path) == {left, used}
    killed.kill()
    killed.wait()
    with scratch_in(tmp_path) as mine:
        assert _folders(tmp_path) == {used, mine}
        assert (used / "upload").stat().st_size == 1000
    running.communicate("")
    assert _folders(tmp_path) == set()
    assert (tmp_path / "scratch").stat().st_mode & 0o077 == 0
