"""Programs with operators of libraries, and of a user's own, in processes of their own."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from planner.errors import InputError, OptionError, Remedy
from planner.executorch.libraries import load_libraries
from planner.files.exported import operators_in

MINE = """
import torch
library = torch.library.Library("mine", "DEF")
library.define("twice(Tensor x) -> Tensor")
library.impl("twice", lambda x: x + x, "CompositeImplicitAutograd")
"""


class Attention(nn.Module):
    """A cache of keys and values that is written at a position, and attended to."""

    keys: Tensor
    values: Tensor

    def __init__(self, head: int = 8) -> None:
        super().__init__()
        self.qkv = nn.Linear(2 * head, 6 * head)
        self.head = head
        self.register_buffer("keys", torch.zeros(1, 16, 2, head))
        self.register_buffer("values", torch.zeros(1, 16, 2, head))

    def read(self, cache: Tensor) -> Tensor:
        return cache

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        start = position[0].item()
        check: Any = torch._check
        check(start >= 0)
        check(start < 12)
        q, k, v = self.qkv(x).view(1, x.shape[1], 6, self.head).split(2, dim=2)
        torch.ops.llama.update_cache(k, self.keys, start)
        torch.ops.llama.update_cache(v, self.values, start)
        keys, values = self.read(self.keys), self.read(self.values)
        found: Tensor = torch.ops.llama.custom_sdpa(q, keys, values, start, None, 0.0, True)
        return found.reshape(1, x.shape[1], 2 * self.head)


def saved(net: nn.Module, *inputs: Tensor) -> bytes:
    file = io.BytesIO()
    torch.export.save(torch.export.export(net.eval(), inputs), file)
    return file.getvalue()


def plan(folder: Path, data: bytes, *options: str) -> subprocess.CompletedProcess[str]:
    """Plans a program by the command line, in a process of its own."""
    (folder / "net.pt2").write_bytes(data)
    command = [sys.executable, "-m", "api.cli", "plan", str(folder / "net.pt2"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_operators_of_executorchs_libraries_need_no_import(tmp_path: Path) -> None:
    load_libraries("net", ["llama.update_cache"])
    data = saved(Attention(), torch.randn(1, 3, 16), torch.tensor([2]))
    assert {"llama.update_cache", "llama.custom_sdpa"} <= operators_in(io.BytesIO(data))
    done = plan(tmp_path, data)
    assert done.returncode == 0, done.stderr
    assert "optimal" in done.stdout


def test_operators_of_a_users_own(tmp_path: Path) -> None:
    module = tmp_path / "my_operators.py"
    module.write_text(MINE)
    for _ in range(2):  # the second program of a process
        load_libraries("net", ["mine.twice"], [str(module)])

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = torch.ops.mine.twice(torch.relu(x))
            return found

    data = saved(Net(), torch.randn(2, 8))
    assert "mine.twice" in operators_in(io.BytesIO(data))
    done = plan(tmp_path, data)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: net.pt2 has operators that no library here defines: mine.twice: "
        "import the modules that do (--import MODULE)\n"
    )
    assert plan(tmp_path, data, "--import", str(module)).returncode == 0


def test_what_cannot_be_imported_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot import nowhere: ModuleNotFoundError: No module"):
        load_libraries("net", [], ["nowhere"])
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    with pytest.raises(OptionError, match=r"cannot import \S+broken\.py: ZeroDivisionError"):
        load_libraries("net", [], [str(broken)])
    with pytest.raises(InputError, match=r"defines: a\.a, a\.b, a\.c, a\.d and 1 more") as caught:
        load_libraries("net", [f"a.{x}" for x in "abcde"])
    assert caught.value.remedies == (Remedy.IMPORT_OPERATORS,)


def test_operators_that_are_only_spoken_of_are_not_missed() -> None:
    """Source lines of what was decomposed stay in a program, as comments on its nodes."""

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x)  # not torch.ops.other.relu(x)

    found = operators_in(io.BytesIO(saved(Net(), torch.randn(2, 8))))
    assert "aten.relu" in found
    assert not any(name.startswith("other") for name in found)
