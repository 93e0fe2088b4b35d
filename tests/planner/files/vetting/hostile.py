"""Exported programs that run code when torch loads or lowers them, made from an honest one.

Each does what a test asks it to: it makes a file. ``vectors`` are the ways in which one can, each
by itself; a mixture has several.
"""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MODEL: Final = "models/model.json"
WEIGHTS: Final = "data/weights/model_weights_config.json"
CONSTANTS: Final = "data/constants/model_constants_config.json"


@dataclass
class Program:
    """The members of a ``.pt2`` by their names; ``model`` is its parsed JSON."""

    members: dict[str, bytes]
    model: Any

    @classmethod
    def of(cls, data: bytes) -> Program:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {n.split("/", 1)[1]: archive.read(n) for n in archive.namelist()}
        return cls(members, json.loads(members[MODEL]))

    def data(self) -> bytes:
        file = io.BytesIO()
        self.members[MODEL] = json.dumps(self.model).encode()
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in self.members.items():
                archive.writestr(f"program/{name}", data)
        return file.getvalue()

    def copy(self) -> Program:
        return copy.deepcopy(self)

    @property
    def module(self) -> Any:
        return self.model["graph_module"]

    @property
    def graph(self) -> Any:
        return self.module["graph"]

    @property
    def node(self) -> Any:
        """The first node."""
        return self.graph["nodes"][0]


class Payload:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> Any:
        return exec, (code(self._proof),)


def code(proof: Path) -> str:
    """Python that makes a file."""
    return f"open({str(proof)!r}, 'w').close()"


def expression(proof: Path) -> str:
    """The same as an expression."""
    return f"__import__('builtins').open({str(proof)!r}, 'w').close()"


Vector = Callable[[Program, Path], None]


def _call(target: str) -> Vector:
    def vector(program: Program, proof: Path) -> None:
        node = copy.deepcopy(program.node)
        node |= {"target": target, "name": "evil", "outputs": [{"as_none": True}]}
        node["inputs"] = [
            {"name": "", "arg": {"as_string": str(proof)}, "kind": 1},
            {"name": "", "arg": {"as_string": "w"}, "kind": 1},
        ]
        program.graph["nodes"].insert(0, node)

    return vector


def _operator_argument(program: Program, proof: Path) -> None:
    program.node["inputs"].append(
        {"name": "x", "arg": {"as_operator": "torch.os.system"}, "kind": 2}
    )


def _size(program: Program, proof: Path) -> None:
    sizes = next(iter(program.graph["tensor_values"].values()))["sizes"]
    sizes[0] = {"as_expr": {"expr_str": expression(proof), "hint": None}}


def _nested_size(program: Program, proof: Path) -> None:
    text = f"Max(1, {expression(proof)} or 1)"
    program.graph["sym_int_values"]["s0"] = {"as_expr": {"expr_str": text, "hint": None}}
    sizes = next(iter(program.graph["tensor_values"].values()))["sizes"]
    sizes[0] = {"as_expr": {"expr_str": text, "hint": None}}


def _name(program: Program, proof: Path) -> None:
    """A value's name is written into Python code."""
    made = (o for node in program.graph["nodes"] for o in node["outputs"] if "as_tensor" in o)
    old = next(made)["as_tensor"]["name"]
    new = f"x = {expression(proof)}; {old}"
    text = json.dumps(program.model).replace(json.dumps(old), json.dumps(new))
    program.model = json.loads(text)


def _guard(program: Program, proof: Path) -> None:
    program.model["guards_code"] = [f"{expression(proof)} is None"]


def _guard_with_a_line(program: Program, proof: Path) -> None:
    program.model["guards_code"] = [f"L['x'].size()[0] >= 0 #\n{code(proof)}"]


def _tree(program: Program, proof: Path) -> None:
    """A default dictionary imports the module of its factory."""
    proof.with_suffix(".py").write_text(code(proof))
    context = {
        "default_factory_module": proof.stem,
        "default_factory_name": "dict",
        "dict_context": [],
    }
    spec = {"type": "collections.defaultdict", "context": context, "children_spec": []}
    signature = program.module["module_call_graph"][0]["signature"]
    signature["in_spec"] = json.dumps([1, spec])


def _pickled(folder: str, config: str, path_name: str) -> Vector:
    def vector(program: Program, proof: Path) -> None:
        found = json.loads(program.members[config])
        meta = {"path_name": path_name, "is_param": False, "use_pickle": True, "tensor_meta": None}
        found["config"]["evil"] = meta
        program.members[config] = json.dumps(found).encode()
        program.members[folder + path_name] = _saved(proof)

    return vector


def _opaque(program: Program, proof: Path) -> None:
    _pickled("data/constants/", CONSTANTS, "opaque_obj_0")(program, proof)
    program.members["data/constants/opaque_obj_0"] = pickle.dumps(Payload(proof))


def _custom(program: Program, proof: Path) -> None:
    _pickled("data/constants/", CONSTANTS, "custom_obj_0")(program, proof)


def _sample_inputs(program: Program, proof: Path) -> None:
    program.members["data/sample_inputs/model.pt"] = _saved(proof)


def _old_weights(program: Program, proof: Path) -> None:
    program.members["data/weights/model.pt"] = _saved(proof)


def _old_constants(program: Program, proof: Path) -> None:
    program.members["data/constants/model.pt"] = _saved(proof)


def _library(program: Program, proof: Path) -> None:
    program.members["data/aotinductor/model/x.so"] = b"\x7fELF"
    program.members["data/aotinductor/model/x_metadata.json"] = b'{"AOTI_DEVICE_KEY": "cpu"}'


def _second_model(program: Program, proof: Path) -> None:
    other = program.copy()
    _size(other, proof)
    program.members["models/other.json"] = json.dumps(other.model).encode()
    for name in list(program.members):
        if "/model_" in name:
            program.members[name.replace("/model_", "/other_")] = program.members[name]
    program.members["data/sample_inputs/other.pt"] = _saved(proof)


def _saved(proof: Path) -> bytes:
    """What ``torch.save`` writes, with a payload in it."""
    import torch

    file = io.BytesIO()
    torch.save(((Payload(proof),), {}), file)
    return file.getvalue()


VECTORS: Final[dict[str, Vector]] = {
    "a function of Python": _call("torch.os.system"),
    "a function that opens files": _call("torch.serialization.os.open"),
    "a function of a namespace": _call("torch.ops.load_library"),
    "an operator that maps a file": _call("torch.ops.aten.from_file.default"),
    "a function of TorchScript": _call("torch.ops.aten.save.default"),
    "a hidden attribute": _call("torch.ops.aten.__class__.__init__"),
    "an attribute of an operator": _call("torch.ops.aten.relu.default.__globals__.x"),
    "a function of math": _call("math.__loader__.load_module"),
    "an extension": _call("#evil:evil"),
    "a library's own namespace": _call("torch.ops.inductor.resize_storage_bytes_.default"),
    "a network": _call("torch.ops.c10d.send.default"),
    "an operator as an argument": _operator_argument,
    "a size": _size,
    "a size within another": _nested_size,
    "a name": _name,
    "a guard": _guard,
    "a guard of two lines": _guard_with_a_line,
    "a tree of inputs": _tree,
    "a pickled weight": _pickled("data/weights/", WEIGHTS, "weight_evil"),
    "a pickled constant": _pickled("data/constants/", CONSTANTS, "tensor_9"),
    "an opaque constant": _opaque,
    "a custom constant": _custom,
    "sample inputs": _sample_inputs,
    "weights of an older release": _old_weights,
    "constants of an older release": _old_constants,
    "a compiled library": _library,
    "a second model": _second_model,
}


def corpus(
    honest: bytes, folder: Path, mixtures: int, seed: int
) -> Iterator[tuple[str, bytes, Path]]:
    """Each vector and some mixtures: what it is, the file, and the file that it would make."""

    draw = random.Random(seed)
    singles = [[name] for name in VECTORS]
    mixed = [draw.sample(list(VECTORS), draw.randint(2, 5)) for _ in range(mixtures)]
    for number, names in enumerate([*singles, *mixed]):
        program, proof = Program.of(honest), folder / f"proof{number}"
        for name in names:
            VECTORS[name](program, proof)
        yield ", ".join(names), program.data(), proof
