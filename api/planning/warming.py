"""Plans small programs, so that what planning needs is imported before it is needed.

``warm.pt2`` is a small net that torch exported: ``python -m api.planning.warming`` writes it anew.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from planner.errors import MissingExtraError
from planner.options import PlanOptions
from schema import VkDataType, VkGraph, VkTensor
from schema.vkgraph import OperatorCall, encode

EXPORTED: Final = Path(__file__).with_name("warm.pt2")


def warm(*, uses_torch: bool) -> None:
    """Plans a lowered program, and an exported one where torch is wanted and there.

    No thread is left that a forked process would lack.
    """
    from planner.pipelines.dispatch import plan_program

    plan_program(_lowered(), "warm", PlanOptions())
    if not uses_torch:
        return
    # What is missing is said by the work that needs it.
    with suppress(ImportError, MissingExtraError):
        import torch

        # Forked processes would wait for the threads of a pool, which they lack.
        torch.set_num_threads(1)
        plan_program(EXPORTED.read_bytes(), "warm", PlanOptions())


def _lowered() -> bytes:
    tensor = VkTensor(VkDataType.FLOAT32, (1, 8, 4, 4))
    chain = (OperatorCall(0, "aten.relu.default", (0, 1)),)
    return encode(VkGraph("0", chain, (tensor, tensor), (0,), (1,)))


def _write() -> None:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)
            self.norm = torch.nn.BatchNorm2d(8)
            self.linear = torch.nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.norm(self.conv(x)))
            found: torch.Tensor = torch.softmax(self.linear(x.mean((2, 3))), 1)
            return found

    torch.manual_seed(0)
    program = torch.export.export(Net().eval(), (torch.zeros(1, 3, 8, 8),))
    torch.export.save(program, EXPORTED)


if __name__ == "__main__":
    _write()
