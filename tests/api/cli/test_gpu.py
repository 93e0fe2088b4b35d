"""``layout-planner gpu info``."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from gpu import device
from gpu.device import AdapterInfo

CARD = AdapterInfo(
    name="Card [9000]",
    backend="vulkan",
    kind="DiscreteGPU",
    driver="driver 1.2",
    features=("shader-f16", "timestamp-query"),
    limits={"max-texture-dimension-3d": 16384, "max-storage-buffer-binding-size": 2**31},
)
CPU = replace(CARD, name="llvmpipe", kind="CPU", features=())


def info(*args: str) -> Result:
    """Runs the command in this process; a bug's exception is not hidden."""
    result = CliRunner().invoke(main, ["gpu", "info", *args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def has(monkeypatch: pytest.MonkeyPatch, *adapters: AdapterInfo) -> None:
    """Makes this a machine with these GPUs."""
    monkeypatch.setattr(device, "_adapters", lambda: [(adapter, None) for adapter in adapters])


@pytest.mark.gpu
def test_this_machine() -> None:
    adapters = json.loads(info("--json").stdout)["adapters"]
    (used,) = (adapter for adapter in adapters if adapter["is_used"])
    opened = device.open_gpu()
    assert (used["name"], used["backend"]) == (opened.info.name, opened.info.backend)
    assert used["limits"]["max-texture-dimension-3d"] == opened.limit("max-texture-dimension-3d")
    assert used["timestamps"] == opened.has_timestamps
    opened.close()

    result = info("--backend", used["backend"], "--adapter", used["name"].upper())
    assert result.exit_code == 0
    for adapter in adapters:
        assert adapter["name"][:8] in result.stdout and adapter["backend"] in result.stdout


def test_the_one_that_is_used_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, CPU, CARD)
    assert [a["is_used"] for a in json.loads(info("--json").stdout)["adapters"]] == [False, True]
    cells = [line.split("│")[1:-1] for line in info().stdout.splitlines()]
    rows = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in cells if row}
    assert rows["used"] == rows["timestamps"] == rows["f16 in shaders"] == ["yes", "no"]
    assert rows["kind"] == ["hardware, DiscreteGPU", "software, CPU"]
    assert rows["largest binding"] == ["2,048 MiB"] * 2
    assert rows["largest buffer"] == ["–"] * 2
    assert "Card [9000]" in info().stdout
    chosen = json.loads(info("--json", "--adapter", "LLVM").stdout)["adapters"]
    assert [a["is_used"] for a in chosen] == [True, False]
    assert [a["is_software"] for a in chosen] == [True, False]


@pytest.mark.parametrize(
    ("adapters", "args", "text"),
    [
        ([], [], "there is no GPU: install a "),
        ([], ["--json"], "there is no GPU: install a "),
        (
            [CARD],
            ["--backend", "metal"],
            "with backend metal: this machine has Card [9000] (vulkan",
        ),
        ([CARD], ["--adapter", "Voodoo"], "whose name contains 'Voodoo': this machine has Card"),
        ([CARD], ["--backend", "cuda"], "unknown backend 'cuda': use one of vulkan, metal, d3d12"),
    ],
)
def test_what_there_is_not(
    monkeypatch: pytest.MonkeyPatch, adapters: list[AdapterInfo], args: list[str], text: str
) -> None:
    has(monkeypatch, *adapters)
    result = info(*args)
    assert result.exit_code == 2 and not result.stdout
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert text in result.stderr
