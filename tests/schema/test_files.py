"""The .fbs files, what is generated from them, and the descriptions that decode and encode use."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from schema import generate, plan, vkgraph
from schema.flatbuffer import Reader
from schema.tables import Enumeration, Members, Numbers, OneOf, Scalar, Table, Tables, Text


# The compiler's own description of a schema: the parts of reflection.fbs up to the last one needed.
@dataclass(frozen=True)
class Type:
    base_type: int
    element: int
    index: int


@dataclass(frozen=True)
class Field:
    name: str
    type: Type
    id: int
    offset: int
    default_integer: int
    default_real: float


@dataclass(frozen=True)
class Object:
    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class EnumValue:
    name: str
    value: int


@dataclass(frozen=True)
class Enum:
    name: str
    values: tuple[EnumValue, ...]
    is_union: bool


@dataclass(frozen=True)
class Schema:
    objects: tuple[Object, ...]
    enums: tuple[Enum, ...]
    file_identifier: str


_TYPE = Table(
    "Type", Type, {"base_type": Scalar("b"), "element": Scalar("b"), "index": Scalar("i", -1)}
)
_FIELD = Table(
    "Field",
    Field,
    {
        "name": Text(),
        "type": _TYPE,
        "id": Scalar("H"),
        "offset": Scalar("H"),
        "default_integer": Scalar("q"),
        "default_real": Scalar("d", 0.0),
    },
)
_OBJECT = Table("Object", Object, {"name": Text(), "fields": Tables(_FIELD)})
_ENUM_VALUE = Table("EnumVal", EnumValue, {"name": Text(), "value": Scalar("q")})
_ENUM = Table(
    "Enum", Enum, {"name": Text(), "values": Tables(_ENUM_VALUE), "is_union": Scalar("?", False)}
)
_SCHEMA = Table(
    "Schema",
    Schema,
    {"objects": Tables(_OBJECT), "enums": Tables(_ENUM), "file_identifier": Text()},
)

# reflection.BaseType of a number in a table, or in a vector.
_BASE_TYPES = {"?": 2, "b": 3, "B": 4, "i": 7, "I": 8, "q": 9, "Q": 10, "d": 12}
_UNION_TAG, _STRING, _VECTOR, _TABLE, _UNION = 1, 13, 14, 15, 16


def compile_schema(source: Path, folder: Path) -> bytes:
    """The compiler's description of an .fbs file."""
    subprocess.run(
        [str(generate.flatc()), "--binary", "--schema", "-o", str(folder), str(source)], check=True
    )
    return (folder / source.with_suffix(".bfbs").name).read_bytes()


def reflect(source: Path, folder: Path) -> Schema:
    reader = Reader(compile_schema(source, folder))
    return _SCHEMA.read(reader, reader.root(b"BFBS"))


def contract(schema: Schema) -> dict[str, Any]:
    """A schema's tables and enumerations, by name, as plain values."""
    names = [item.name for item in schema.objects]
    enum_names = [item.name for item in schema.enums]

    def kind(field_type: Type) -> tuple[int, int, str]:
        referred = names if _TABLE in (field_type.base_type, field_type.element) else enum_names
        name = referred[field_type.index] if field_type.index >= 0 else ""
        return field_type.base_type, field_type.element, name

    tables = {
        table.name: {
            field.name: (
                field.id,
                field.offset,
                kind(field.type),
                field.default_integer,
                field.default_real,
            )
            for field in table.fields
        }
        for table in schema.objects
    }
    enums = {
        enum.name: (enum.is_union, {value.name: value.value for value in enum.values})
        for enum in schema.enums
    }
    return {"identifier": schema.file_identifier, "tables": tables, "enums": enums}


def installed_schema() -> Path:
    package = importlib.util.find_spec("executorch")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = next(iter(package.submodule_search_locations))
    return Path(folder, "backends", "vulkan", "serialization", "schema.fbs")


def test_vkgraph_is_the_contract_of_the_installed_delegate(tmp_path: Path) -> None:
    ours = reflect(generate.HERE / "vkgraph.fbs", tmp_path)
    theirs = reflect(installed_schema(), tmp_path)
    assert contract(ours) == contract(theirs)
    assert contract(ours)["identifier"] == "VK00"
    layouts = contract(ours)["enums"]["vkgraph.VkMemoryLayout"][1]
    assert layouts["PACKED_INT8_4C"] == 6
    assert layouts["PACKED_INT8_4C1W"] == 8
    assert layouts["PACKED_INT8_CONV2D"] == 9


def test_vkgraph_compiles_to_the_same_bytes_as_the_installed_schema(tmp_path: Path) -> None:
    """Whatever else a schema can say, comments apart, is the same too."""
    results = []
    for folder, source in (("ours", generate.HERE / "vkgraph.fbs"), ("theirs", installed_schema())):
        copy = tmp_path / folder / "schema.fbs"
        copy.parent.mkdir()
        copy.write_bytes(source.read_bytes())
        results.append(compile_schema(copy, copy.parent))
    assert results[0] == results[1]


def described(table: Table[Any] | OneOf) -> Iterator[Table[Any] | OneOf]:
    """A description, and all that it leads to."""
    yield table
    if isinstance(table, OneOf):
        for member in table.members:
            yield from described(member)
        return
    for field in table.fields.values():
        inner = field.table if isinstance(field, Tables) else field
        if isinstance(inner, Table | OneOf):
            yield from described(inner)


@pytest.mark.parametrize(
    ("name", "root", "namespace", "identifier"),
    [
        ("vkgraph", vkgraph.VK_GRAPH, "vkgraph", vkgraph.FILE_IDENTIFIER),
        ("plan", plan.PLANNED_PROGRAM, "layoutplan", plan.FILE_IDENTIFIER),
    ],
)
def test_descriptions_follow_the_schema(
    name: str, root: Table[Any], namespace: str, identifier: bytes, tmp_path: Path
) -> None:
    schema = reflect(generate.HERE / f"{name}.fbs", tmp_path)
    assert schema.file_identifier.encode() == identifier
    objects = {item.name: item for item in schema.objects}
    enums = {item.name.split(".")[-1]: item for item in schema.enums}

    def same_members(members: type[IntEnum], field_type: Type) -> None:
        enum = schema.enums[field_type.index]
        assert enum is enums[members.__name__]
        assert {member.name: member.value for member in members} == {
            value.name: value.value for value in enum.values
        }

    seen = set()
    for table in described(root):
        listed = objects[f"{namespace}.{table.name}"]
        by_id = sorted(listed.fields, key=lambda field: field.id)
        seen.add(listed.name)
        if isinstance(table, OneOf):
            tag, value = by_id
            assert (tag.type.base_type, value.type.base_type) == (_UNION_TAG, _UNION)
            assert value.name == table.field
            union = {item.value: item.name for item in schema.enums[value.type.index].values}
            assert union == {0: "NONE"} | dict(enumerate((t.name for t in table.members), 1))
            continue
        assert isinstance(table.build, type)
        assert [*signature(table.build).parameters] == list(table.fields)
        assert [field.name for field in by_id] == list(table.fields)
        for description, field in zip(table.fields.values(), by_id, strict=True):
            if isinstance(description, Scalar | Enumeration):
                assert field.type.base_type == _BASE_TYPES[description.format]
                default = field.default_real if description.format == "d" else field.default_integer
                assert description.default == default
                if isinstance(description, Enumeration):
                    same_members(description.members, field.type)
            elif isinstance(description, Numbers):
                assert field.type.base_type == _VECTOR
                assert field.type.element == _BASE_TYPES[description.format]
                if isinstance(description, Members):
                    same_members(description.members, field.type)
            elif isinstance(description, Tables) and isinstance(description.table, Text):
                assert (field.type.base_type, field.type.element) == (_VECTOR, _STRING)
            elif isinstance(description, Tables):
                assert (field.type.base_type, field.type.element) == (_VECTOR, _TABLE)
                assert isinstance(description.table, Table | OneOf)
                target = schema.objects[field.type.index].name
                assert target == f"{namespace}.{description.table.name}"
            elif isinstance(description, Table):
                assert field.type.base_type == _TABLE
                target = schema.objects[field.type.index].name
                assert target == f"{namespace}.{description.name}"
            elif isinstance(description, Text):
                assert field.type.base_type == _STRING
            else:
                assert (field.type.base_type, field.type.element) == (_VECTOR, _BASE_TYPES["B"])
    assert seen == {key for key in objects if key.startswith(f"{namespace}.")}


def test_generated_code_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_generation_replaces_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "GENERATED", tmp_path)
    (tmp_path / "left_over.py").write_text("")
    (tmp_path / "plan.py").write_text("altered")
    assert generate.main(["--check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        f"schema/generated/{name}.py" for name in ("__init__", "left_over", "plan", "vkgraph")
    ]
    assert generate.main([]) == 0
    assert generate.stale() == []


def test_importing_schema_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'executorch', 'numpy', 'ortools', 'flatbuffers'}"
    program = f"import sys, schema; assert not sys.modules.keys() & {heavy}"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=generate.HERE.parent)
