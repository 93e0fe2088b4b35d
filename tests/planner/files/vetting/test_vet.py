"""Exported programs are vetted: hostile ones run nothing, honest ones come to the same program."""

from __future__ import annotations

import io
import json
import random
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from planner.errors import InputError
from planner.files.vetting.vet import vet
from planner.options import LoweringOptions, make_options
from tests.planner.files.vetting.hostile import MODEL, VECTORS, Program, corpus

pytestmark = pytest.mark.lowering

RUN_WHEN_TRUSTED = {
    *("a size", "a size within another", "a tree of inputs", "a pickled weight"),
    *("a pickled constant", "an opaque constant", "sample inputs", "a second model"),
    *("weights of an older release", "constants of an older release"),
}
"""Vectors that torch 2.13 runs while it loads a program; the others need more luck."""

LEFT_OUT = {
    *("sample inputs", "weights of an older release", "constants of an older release"),
    "a second model",
}
"""Vectors in parts of a file that no plan needs: they are not refused, but do not come through."""


@pytest.fixture(scope="module")
def honest() -> bytes:
    """A program with sizes that vary, a buffer, a constant, and nested inputs and outputs."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.register_buffer("scale", torch.ones(1, 8, 1, 1))

        def forward(self, x: torch.Tensor, more: dict[str, list[torch.Tensor]]) -> Any:
            scale: Any = self.scale
            y = torch.relu(self.conv(x)) * scale + torch.tensor([2.0])
            return {"flat": y.reshape(x.shape[0] * 2, -1), "sum": (y + more["bias"][0],)}

    torch.manual_seed(0)
    inputs = (torch.randn(4, 3, 8, 8), {"bias": [torch.randn(8, 1, 1)]})
    shapes = {"x": {0: torch.export.Dim("n", min=4, max=64)}, "more": {"bias": [None]}}
    file = io.BytesIO()
    torch.export.save(torch.export.export(Net().eval(), inputs, dynamic_shapes=shapes), file)
    return file.getvalue()


def lowered(data: bytes, trust: bool = False) -> bytes:
    from planner.pipelines.exported import lower_exported

    return lower_exported(data, "net.pt2", LoweringOptions(trust=trust)).pte


def test_an_honest_program_comes_to_the_same(honest: bytes) -> None:
    safe, found = vet(honest, "net.pt2")
    assert ("aten", "conv2d", "default") in found.operators
    assert vet(safe, "net.pt2")[0] == safe
    assert "sample_inputs" not in str(Program.of(safe).members.get("data/sample_inputs/model.pt"))
    assert lowered(honest) == lowered(honest, trust=True)


def test_what_eager_computes_is_the_same(honest: bytes) -> None:
    import numpy as np

    from planner.executorch.running import eager_outputs

    draw = np.random.default_rng(0)
    inputs = [draw.standard_normal(s).astype(np.float32) for s in ((4, 3, 8, 8), (8, 1, 1))]
    found, trusted = (
        eager_outputs(honest, "net.pt2", inputs, LoweringOptions(trust=trust))
        for trust in (False, True)
    )
    assert len(found) == 2
    for a, b in zip(found, trusted, strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("name", VECTORS)
def test_a_hostile_program_runs_nothing(
    honest: bytes, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    proof = tmp_path / "proof"
    program = Program.of(honest)
    VECTORS[name](program, proof)
    data = program.data()
    if name in LEFT_OUT:
        assert lowered(data) == lowered(honest)
    else:
        with pytest.raises(
            InputError, match=r"net\.pt2 (is refused: |has operators that no library)"
        ):
            lowered(data)
    assert not proof.exists()
    # That it would have run is what makes this a test.
    if name in RUN_WHEN_TRUSTED:
        with suppress(InputError):
            lowered(data, trust=True)
        assert proof.exists()


def test_mixtures_of_them_run_nothing(
    honest: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = count = 0
    for _, data, proof in corpus(honest, tmp_path, mixtures=300, seed=0):
        count += 1
        try:
            safe, _ = vet(data, "net.pt2")
        except InputError:
            pass
        else:
            assert safe == vet(honest, "net.pt2")[0]
        ran += proof.exists()
    with capsys.disabled():
        print(f"\nhostile programs that ran anything: {ran} of {count}")
    assert ran == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a function of Python", "nodes / 0 / target is 'torch.os.system', which is no operator"),
        ("an operator that maps a file", "from_file.default', which does more than compute"),
        ("a network", "is 'torch.ops.c10d.send.default', of a namespace that is not known"),
        ("a size", "sizes / 0 / as_expr / expr_str is a size that is not known: "),
        ("a name", "name is called \"x = __import__('builtins')"),
        ("a guard", "guards_code / 0 is a guard that is not known: "),
        ("a tree of inputs", "in_spec / context is no text"),
        ("a pickled weight", "config / evil is no plain tensor, but a pickle, which can run"),
        ("a compiled library", "data/aotinductor/model/x.so is a compiled library"),
    ],
)
def test_a_refusal_says_what_and_where(honest: bytes, name: str, text: str, tmp_path: Path) -> None:
    program = Program.of(honest)
    VECTORS[name](program, tmp_path / "proof")
    with pytest.raises(InputError) as found:
        vet(program.data(), "net.pt2")
    assert str(found.value).startswith("net.pt2 is refused: ")
    assert text in str(found.value)
    assert "if you would run code of whoever made it, say so" in str(found.value)


def test_operators_of_torchscript_are_refused_by_torch_itself(honest: bytes) -> None:
    program = Program.of(honest)
    program.node["target"] = "torch.ops.aten.manual_seed.default"
    with pytest.raises(InputError, match=r"refused: aten\.manual_seed\.default is no operator"):
        lowered(program.data())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sizes": [{"as_int": 10**12}]}, "has sizes or strides that no tensor has"),
        ({"sizes": [{"as_int": 10**9}] * 4}, "is larger than the 864 bytes that it has"),
        ({"storage_offset": {"as_int": 10**6}}, "is larger than the 864 bytes that it has"),
        ({"storage_offset": {"as_int": -1}}, "has sizes or strides that no tensor has"),
        ({"dtype": 99}, "has the dtype 99, which is not known"),
        ({"device": {"type": "privateuseone", "index": None}}, "is the device 'privateuseone'"),
    ],
)
def test_tensors_lie_within_their_bytes(honest: bytes, change: Any, text: str) -> None:
    program = Program.of(honest)
    name = "data/weights/model_weights_config.json"
    found = json.loads(program.members[name])
    found["config"]["conv.weight"]["tensor_meta"] |= change
    program.members[name] = json.dumps(found).encode()
    with pytest.raises(InputError, match=r"is refused: .* config / conv\.weight") as refusal:
        vet(program.data(), "net.pt2")
    assert text in str(refusal.value)


def test_what_is_not_known_is_left_out(honest: bytes) -> None:
    program = Program.of(honest)
    program.model["colour"] = program.node["metadata"]["custom"] = "blue"
    program.node["metadata"]["nn_module_stack"] = "a,b,torch.__loader__"
    program.members |= {"extra/code.py": b"1", "data/executorch/x.pte": b"1"}
    safe = Program.of(vet(program.data(), "net.pt2")[0])
    assert "colour" not in safe.model
    assert not {"custom", "nn_module_stack"} & safe.node["metadata"].keys()
    assert not any(name.startswith(("extra/", "data/executorch")) for name in safe.members)


def test_damage_anywhere_is_refused_or_harmless(honest: bytes) -> None:
    """Values of the JSON are replaced by others at random."""
    draw = random.Random(0)
    others: list[Any] = [None, -1, 2**70, 1e999, "x", "a b", [], {}, [[[]]], True, {"as_int": "x"}]
    for _ in range(300):
        program = Program.of(honest)
        place: Any = program.model
        while True:
            key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if not place[key] or not isinstance(place[key], (dict, list)) or draw.random() < 0.1:
                break
            place = place[key]
        place[key] = draw.choice(others)
        try:
            vet(program.data(), "net.pt2")
        except InputError as error:
            assert str(error).startswith("net.pt2 is refused: ")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"graph_module": ' * 50_000, "no JSON", "3"])
def test_what_is_no_program_is_refused(honest: bytes, text: str) -> None:
    with pytest.raises(InputError, match=r"net\.pt2 is refused: models/model\.json is no "):
        vet(_with_model(honest, text), "net.pt2")


def test_graphs_within_graphs_end_somewhere(honest: bytes) -> None:
    program = Program.of(honest)
    empty: dict[str, Any] = {"nodes": [], "outputs": [], "tensor_values": {}}
    empty |= {"sym_int_values": {}, "sym_bool_values": {}}
    inner: Any = empty | {"inputs": []}
    for _ in range(150):
        inner = empty | {"inputs": [{"as_graph": {"name": "g", "graph": inner}}]}
    program.module["graph"] = inner
    with pytest.raises(InputError, match="is refused: its graph is nested too deeply"):
        vet(program.data(), "net.pt2")


def _with_model(honest: bytes, text: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(honest)) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            data = text.encode() if info.filename.endswith(MODEL) else old.read(info)
            new.writestr(info.filename, data)
    return file.getvalue()


def test_an_older_archive_is_to_be_exported_again(honest: bytes) -> None:
    program = Program.of(honest)
    del program.members["archive_format"]
    with pytest.raises(InputError, match=r"has no program that torch\.export\.save of this"):
        vet(program.data(), "net.pt2")


def test_trust_is_part_of_the_options() -> None:
    assert make_options(trust=True).lowering.trust
    assert not make_options().lowering.trust
