"""The devices that ship are what the recorded runs of the repository teach."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.bench.devices import KNOWN, record_of
from api.bench.profiles import DEVICES, RECORDED
from api.cli import main
from planner.measured.device import device_file, load_device, shipped_devices
from planner.tuning.corpus import Recording, read_corpora, read_corpus
from tests.paths import ROOT

MODEL = "mv2_xs_int8"


@pytest.fixture(scope="module")
def corpora() -> dict[str, dict[str, tuple[Recording, ...]]]:
    return read_corpora(DEVICES)


def test_every_recorded_run_ships(
    corpora: dict[str, dict[str, tuple[Recording, ...]]],
) -> None:
    """The same ETDumps and programs, in the same order, to the bit."""
    assert {KNOWN[name].name for name in corpora} == set(shipped_devices())
    for name, models in corpora.items():
        device = load_device(KNOWN[name].name)
        assert (device.driver, device.gpu) == (KNOWN[name].driver, KNOWN[name].gpu)
        recordings = [r for found in models.values() for r in found]
        assert [
            (run.run.source, run.run.etdump_sha256, run.run.graph_sha256) for run in device.runs
        ] == [
            (
                f"{r.name}.etdump",
                hashlib.sha256(r.etdump).hexdigest(),
                hashlib.sha256(r.program).hexdigest(),
            )
            for r in recordings
        ]
        assert all(run.joined / run.total > 0.99 for run in device.runs)


@pytest.mark.lowering
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        *(("h100", f"{model}_greedy") for model in ("convnext_xs", "cvt_xs", "mobilevit", MODEL)),
        *(("lavapipe", name) for name in (f"{MODEL}_random0", "cvt_xs_fp32_measured0")),
    ],
)
def test_what_ships_is_what_a_run_says(
    corpora: dict[str, dict[str, tuple[Recording, ...]]], folder: str, name: str
) -> None:
    (recording,) = (r for found in corpora[folder].values() for r in found if r.name == name)
    known = KNOWN[folder]
    shipped = {run.run.source: run for run in load_device(known.name).runs}
    assert record_of(recording, known) == shipped[f"{name}.etdump"]


@pytest.mark.lowering
def test_devices_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "lavapipe"
    folder.mkdir(parents=True)
    recording = read_corpus(RECORDED)[MODEL][0]
    (folder / f"{recording.name}.etdump").write_bytes(recording.etdump)
    (folder / f"{recording.name}.pte").write_bytes(recording.program)
    command = ["bench", "profiles", str(folder.parent), "--write-devices"]
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        result = CliRunner().invoke(main, [*command, str(tmp_path / place)])
        assert result.exit_code == 0, result.output
        assert "lavapipe.json.xz: 1 runs of 1 models, 259 samples" in result.output
    a, b = ((tmp_path / place / "lavapipe.json.xz").read_bytes() for place in "ab")
    assert a == b
    (run,) = load_device(str(tmp_path / "a" / "lavapipe.json.xz")).runs
    assert run in load_device("lavapipe").runs
    result = CliRunner().invoke(main, [*command, str(tmp_path / "none")])
    assert result.exit_code == 2 and "its directory does not exist" in result.output
    folder.rename(folder.with_name("phone"))
    result = CliRunner().invoke(main, [*command, str(tmp_path / "a")])
    assert result.exit_code == 2 and "nothing is known of a device 'phone'" in result.output


def test_the_package_has_them() -> None:
    names = {path.name for path in (ROOT / "planner/measured/devices").iterdir()}
    assert names == {device_file(name).name for name in shipped_devices()}
