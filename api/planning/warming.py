"""Plans small programs, so that what planning needs is imported before it is needed.

``warm.pt2`` is a small net that torch exported, ``warm.pte`` the same one, lowered:
``python -m api.planning.warming`` writes both anew.
"""

from __future__ import annotations

import pickle
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from api.planning.files import Files
from api.planning.messages import Stage, packed, unpacked
from api.planning.work import PlanWork
from api.store.files import PlanFiles
from planner.errors import MissingExtraError
from planner.options import PlanOptions
from schema import VkDataType, VkGraph, VkTensor
from schema.vkgraph import OperatorCall, encode

EXPORTED: Final = Path(__file__).with_name("warm.pt2")
LOWERED: Final = Path(__file__).with_name("warm.pte")


_TIMES: Final = 8
"""Python makes what has run so often faster."""


def warm(*, uses_torch: bool) -> None:
    """Plans a lowered program, and an exported one where torch is wanted and there.

    No thread is left that a forked process would lack.
    """
    _plan(_graph(), is_lowered=True)
    for _ in range(_TIMES):
        _plan(LOWERED.read_bytes(), is_lowered=True)
    if not uses_torch:
        return
    # What is missing is said by the work that needs it.
    with suppress(ImportError, MissingExtraError):
        import torch

        # Forked processes would wait for the threads of a pool, which they lack.
        torch.set_num_threads(1)
        _plan(EXPORTED.read_bytes(), is_lowered=False)


def _plan(data: bytes, *, is_lowered: bool) -> None:
    """Does such work as it comes: what is computed once then is there for all."""
    source, written = Path("warm"), PlanFiles.within(Path())
    work = PlanWork(source, "warm", PlanOptions(), written, is_lowered=is_lowered)
    with ExitStack() as stack:
        paths = (*work.reads, *work.writes)
        files = Files({path: stack.enter_context(TemporaryFile()).fileno() for path in paths})
        files.write(source, data)
        sent: PlanWork = pickle.loads(pickle.dumps(work))
        sent.run(files, _say)


def _say(stage: str) -> None:
    unpacked(packed(Stage(stage=stage)))


def _graph() -> bytes:
    tensor = VkTensor(VkDataType.FLOAT32, (1, 8, 4, 4))
    chain = (OperatorCall(0, "aten.relu.default", (0, 1)),)
    return encode(VkGraph("0", chain, (tensor, tensor), (0,), (1,)))


def _write() -> None:
    import torch

    from planner.pipelines.dispatch import plan_program

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
    planned = plan_program(EXPORTED.read_bytes(), EXPORTED.name, PlanOptions())
    LOWERED.write_bytes(planned.pte())


if __name__ == "__main__":
    _write()
