"""Whole programs on ExecuTorch's own runtime: the zoo and random nets, planned and not.

Each is written as ExecuTorch lays it out, as we do, and with random layouts; what a runner makes of
them is compared with eager PyTorch, int8 with what ExecuTorch's own layouts give, to the bit.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.console import Console

from api.bench import zoo
from api.bench.kernels import Judged, Program, lower, outputs_of, write_list, write_program
from api.terminal.markdown import row
from planner.errors import InputError, PlannerError
from planner.extras import quiet, require
from planner.kernels.releases import Runtime
from planner.options import PlanOptions
from planner.tuning.simulation import RandomCosts

if TYPE_CHECKING:
    import torch

_RANDOM_PLANS: Final = 2
_KINDS: Final = ("float32", "float16", "int8", "dynamic", "in place")


@dataclass(frozen=True, slots=True)
class Net:
    """A program to lower: what to call it, how, and what it computes of its inputs.

    ``exported`` is the program where it is exported already.
    """

    name: str
    kind: str
    module: Any
    inputs: tuple[Any, ...]
    dynamic: Any = None
    exported: Any = None


def make_programs(folder: Path, models: Sequence[str], nets: int) -> list[Program]:
    """Writes the programs of small models of the zoo, and of so many random nets."""
    require("Programs of the zoo", "torch", "torchao", "executorch", "transformers")
    console = Console(highlight=False, stderr=True)
    programs: list[Program] = []
    with quiet():
        for net in _all(models, nets):
            try:
                made = list(_programs(folder, net))
            except InputError as error:
                console.print(f"{net.name}, {net.kind}: {error}", markup=False)
                continue
            programs += made
            console.print(f"{net.name}, {net.kind}: {len(made)} programs", markup=False)
    write_list(folder, programs)
    return programs


def runtime_table(judged: Sequence[Judged]) -> str:
    """What became of the programs, a model in a row, and random nets by kind, as Markdown."""
    groups: dict[tuple[str, str], dict[str, list[Judged]]] = {}
    for one in judged:
        name = "random nets" if one.program.operator.startswith("net ") else one.program.operator
        plans = groups.setdefault((name, one.program.dtype), {})
        plans.setdefault(one.program.shapes.split()[0], []).append(one)
    plans_ = ("executorch", "planned", "random")
    lines = [row(("program", "kind", "ExecuTorch's layouts", "ours", "random layouts"))]
    lines.append(row(["---"] * 5))
    for (name, kind), plans in groups.items():
        lines.append(row((name, kind, *(_cell(plans.get(plan, ())) for plan in plans_))))
    return "\n".join(lines) + "\n"


def _cell(found: Sequence[Judged]) -> str:
    right = [one for one in found if one.verdict == "right"]
    wrong = [one.error for one in found if one.verdict == "wrong"]
    unloaded = dict.fromkeys(one.reason for one in found if one.verdict == "does not load")
    if not found:
        return ""
    text = [f"{len(right)} of {len(found)} right"]
    if wrong:
        text.append(f"wrong by {min(wrong):.2g} to {max(wrong):.2g} of the largest value")
    text += [f"does not load: {reason.rpartition('): ')[2]}" for reason in unloaded]
    return "; ".join(text)


def _programs(folder: Path, net: Net) -> Iterator[Program]:
    from torch.utils._pytree import tree_leaves

    from planner.pipelines.lowered import replan

    pte = _lowered(net)
    int8 = net.kind == "int8"
    noise = 0.0 if int8 else _noise(net)
    expected = None if int8 else [*outputs_of(net.module(*net.inputs))]
    options = PlanOptions(runtime=Runtime())
    stem = re.sub(r"\W+", "_", f"{net.name}-{net.kind}")
    reference = f"{stem}-executorch" if int8 else ""
    variants: list[tuple[str, Callable[[], bytes]]] = [
        ("executorch", lambda: pte),
        ("planned", lambda: replan(pte, net.name, options).data),
    ]
    for seed in range(_RANDOM_PLANS):
        draw = partial(_random, pte, net.name, options, seed)
        variants.append((f"random {seed}", draw))
    for plan, make in variants:
        try:
            data = make()
        except PlannerError as error:
            raise InputError(f"{plan}: {error}") from error
        name = f"{stem}-{plan.replace(' ', '_')}"
        program = Program(name, net.name, plan, net.kind, "", "", (), (), reference, noise)
        yield write_program(folder, program, data, tree_leaves(net.inputs), expected)


def _random(pte: bytes, name: str, options: PlanOptions, seed: int) -> bytes:
    from planner.pipelines.lowered import replan

    return replan(pte, name, options, chooser=RandomCosts(seed)).data


def _noise(net: Net) -> float:
    """The relative error of eager's own float32: some nets divide noise by noise.

    0 where a program has constants of its own in float32, and so no other precision.
    """
    import torch
    from torch.utils._pytree import tree_map

    exact = copy.deepcopy(net.module).double()
    once = copy.deepcopy(net.module)
    doubles = tree_map(lambda t: t.double() if t.is_floating_point() else t, net.inputs)
    try:
        with torch.no_grad():
            pairs = zip(outputs_of(once(*net.inputs)), outputs_of(exact(*doubles)), strict=True)
    except RuntimeError:
        return 0.0
    apart = [float(np.abs(a - b).max()) / max(float(np.abs(b).max()), 1e-6) for a, b in pairs]
    return max(apart, default=0.0)


def _lowered(net: Net) -> bytes:
    import torch

    from planner.files.lowered import delegates_of

    options = {"float16": {"force_fp16": True}, "in place": {"alias_buffer_mutations": True}}
    dynamic = {"dynamic_shapes": net.dynamic} if net.dynamic is not None else {}
    lowered = lower(
        lambda: net.exported or torch.export.export(net.module, net.inputs, **dynamic),
        options.get(net.kind, {}),
    )
    delegates_of(lowered, net.name)
    return lowered


def _all(models: Sequence[str], nets: int) -> Iterator[Net]:
    for name in models:
        exported = zoo.export(name, "small", lively=True)
        inputs = tuple(exported.example_inputs[0])
        kind = "int8" if "int8" in name else "dynamic" if _varies(exported) else "float32"
        yield Net(name, kind, exported.module(), inputs, exported=exported)
    for seed in range(nets):
        yield _random_net(seed)


def _varies(exported: Any) -> bool:
    """Whether inputs of a program have sizes that may vary."""
    inputs = [n for n in exported.graph.nodes if n.name in exported.graph_signature.user_inputs]
    return any(not isinstance(size, int) for n in inputs for size in n.meta["val"].shape)


# Random nets.


def _random_net(seed: int) -> Net:
    import torch

    random, kind = Random(seed), _KINDS[seed % len(_KINDS)]
    torch.manual_seed(seed)
    name = f"net {seed}"
    if kind == "dynamic":
        width = random.choice([8, 10, 16])
        module = _chain(_token_layers(random, width), random)
        length = torch.export.Dim("length", min=2, max=12)
        # ExecuTorch's runner takes inputs of the largest sizes alone.
        inputs = (torch.randn(1, 12, width),)
        return Net(name, kind, module, inputs, dynamic=({1: length},))
    if random.random() < 0.5 and kind != "int8":
        width = random.choice([6, 8, 10, 12])
        inputs = (torch.randn(random.choice([1, 2]), random.randint(3, 9), width),)
        module = _chain(_token_layers(random, width), random, state=kind == "in place", like=inputs)
        return Net(name, kind, module, inputs)
    channels = random.choice([4, 6, 8])
    batch = 1 if kind == "int8" else random.choice([1, 2])
    inputs = (torch.randn(batch, channels, random.randint(5, 9), random.randint(5, 9)),)
    layers = _image_layers(random, channels, int8=kind == "int8")
    module = _chain(layers, random, state=kind == "in place", like=inputs)
    if kind == "int8":
        module = zoo.quantized(module, inputs)
    return Net(name, kind, module, inputs)


def _chain(
    layers: list[Any], random: Random, *, state: bool = False, like: tuple[Any, ...] = ()
) -> Any:
    """The layers one after another, some with a residual around them, and perhaps a state."""
    import torch
    from torch import nn

    around = [random.random() < 0.3 for _ in layers]

    class Chain(nn.Module):
        total: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layers)
            if state:
                self.register_buffer("total", torch.zeros(like[0].shape))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if state:
                self.total.add_(x)
                x = self.total * 1.5
            for layer, residual in zip(self.layers, around, strict=True):
                y = layer(x)
                x = x + y if residual and y.shape == x.shape else y
            return x

    return Chain().eval()


def _function(call: Callable[[Any], Any]) -> Any:
    from torch import nn

    class Function(nn.Module):
        def forward(self, x: Any) -> Any:
            return call(x)

    return Function()


def _token_layers(random: Random, width: int) -> list[Any]:
    import torch
    from torch import nn
    from torch.nn import functional as f

    choices: list[Callable[[], Any]] = [
        lambda: nn.Linear(width, width),
        lambda: nn.LayerNorm(width),
        nn.GELU,
        nn.Sigmoid,
        lambda: _function(lambda x: torch.softmax(x, dim=-1)),
        lambda: _function(lambda x: torch.bmm(torch.softmax(torch.bmm(x, x.mT), -1), x)),
        lambda: _function(lambda x: x * x.mean(-1, keepdim=True)),
        lambda: _function(lambda x: f.relu(x) + 0.5),
        lambda: _function(lambda x: torch.cat([x[..., 2:], x[..., :2]], dim=-1)),
        lambda: _function(lambda x: x.mT.contiguous().mT * 2.0),
    ]
    return [random.choice(choices)() for _ in range(random.randint(3, 7))]


def _image_layers(random: Random, channels: int, *, int8: bool) -> list[Any]:
    import torch
    from torch import nn
    from torch.nn import functional as f

    convolutions: list[Callable[[], Any]] = [
        lambda: nn.Conv2d(channels, channels, 3, padding=1),
        lambda: nn.Conv2d(channels, channels, 1),
        lambda: nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        nn.ReLU,
    ]
    others: list[Callable[[], Any]] = [
        lambda: nn.BatchNorm2d(channels),
        nn.GELU,
        lambda: _function(lambda x: f.max_pool2d(x, 3, 1, 1)),
        lambda: _function(lambda x: torch.softmax(x, dim=-1)),
        lambda: _function(lambda x: x * x.mean((2, 3), keepdim=True)),
        lambda: _function(lambda x: x + x.amax(-1, keepdim=True)),
        lambda: _function(lambda x: torch.cat([x[:, 1:], x[:, :1]], dim=1)),
        lambda: _function(lambda x: f.pad(x, (1, 0, 0, 1))[:, :, 1:, 1:]),
        lambda: _function(lambda x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2)),
        lambda: _function(lambda x: x.flatten(2).mT.sigmoid().mT.reshape(x.shape)),
    ]
    choices = convolutions if int8 else [*convolutions, *others]
    return [convolutions[0](), *(random.choice(choices)() for _ in range(random.randint(2, 6)))]
