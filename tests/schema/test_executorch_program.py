"""Programs with other blobs and compile specs; ExecuTorch's own reader and writer are referees."""

from __future__ import annotations

import copy
import os
import struct
import tracemalloc
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers.table
import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import schema as peer
from executorch.exir import to_edge_transform_and_lower
from executorch.exir._serialize._named_data_store import NamedDataStore
from executorch.exir._serialize._program import (
    PTEFile,
    deserialize_pte_binary,
    serialize_pte_binary,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from schema import SchemaError, split_delegate
from schema.executorch_program import (
    BlobKey,
    CompileSpec,
    DataLocation,
    DelegatePosition,
    is_executorch_program,
    read_program,
    replace_blobs,
    replace_compile_specs,
)

SEGMENT, INLINE = DataLocation.SEGMENT, DataLocation.INLINE
ALIGNMENTS = [16, 128, 4096]
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))

# Lowering takes seconds: one worker of a parallel run does it.
lowers = pytest.mark.xdist_group("executorch_program")


class Net(nn.Module):
    """What Vulkan takes, sorting and a constant that it leaves, and again what it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 4, 1)
        self.linear = nn.Linear(6, 5)
        self.angle = nn.Parameter(torch.arange(1.0, 7.0))

    def forward(self, x: Tensor) -> Any:
        x = torch.sort(self.first(x), dim=-1)[0]
        return self.linear(self.second(torch.atan2(x, self.angle)))


@pytest.fixture(scope="module")
def lowered() -> bytes:
    """Two methods with one net for Vulkan, and one for XNNPACK."""
    torch.manual_seed(0)
    net, image = Net().eval(), (torch.randn(1, 3, 8, 8),)
    cpu = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    edge = to_edge_transform_and_lower(
        {
            "forward": torch.export.export(net, image),
            "again": torch.export.export(net, image),
            "cpu": torch.export.export(cpu, (torch.randn(2, 4),)),
        },
        partitioner={
            "forward": [VulkanPartitioner()],
            "again": [VulkanPartitioner()],
            "cpu": [XnnpackPartitioner()],
        },
    )
    data: bytes = edge.to_executorch().buffer
    return data


def handmade(
    blobs: Sequence[bytes],
    constants: Sequence[bytes] = (),
    named: Sequence[bytes] = (),
    mutable: Sequence[bytes] = (),
    specs: Mapping[DelegatePosition, Sequence[CompileSpec]] | None = None,
) -> PTEFile:
    """A program that does nothing: each plan has a delegate for each blob."""
    given = specs or {}
    plans = [
        peer.ExecutionPlan(
            name=name,
            container_meta_type=peer.ContainerMetadata("", ""),
            values=[],
            inputs=[],
            outputs=[],
            chains=[],
            operators=[],
            delegates=[
                peer.BackendDelegate(
                    f"Backend{index}",
                    peer.BackendDelegateDataReference(peer.DataLocation.INLINE, index),
                    [
                        peer.CompileSpec(spec.key, spec.value)
                        for spec in given.get((plan, index), [CompileSpec("key", b"value")])
                    ],
                )
                for index in range(len(blobs))
            ],
            non_const_buffer_sizes=[0],
        )
        for plan, name in enumerate(("forward", "other"))
    ]
    program = peer.Program(
        version=0,
        execution_plan=plans,
        constant_buffer=[peer.Buffer(constant) for constant in constants],
        backend_delegate_data=[peer.BackendDelegateInlineData(blob) for blob in blobs],
        segments=[],
        constant_segment=peer.SubsegmentOffsets(0, []),
    )
    store = NamedDataStore()
    for index, value in enumerate(named):
        store.add_named_data(f"name{index}", value, alignment=16)
    return PTEFile(
        program,
        mutable_data=[peer.Buffer(value) for value in mutable],
        named_data=store.get_named_data_store_output(),
    )


def written(file: PTEFile, extract: bool = True, alignment: int = 128, delegate: int = 16) -> bytes:
    return bytes(
        serialize_pte_binary(
            file,
            extract_delegate_segments=extract,
            segment_alignment=alignment,
            delegate_alignment=delegate,
        )
    )


def with_blobs(data: bytes, blobs: Mapping[BlobKey, bytes]) -> PTEFile:
    """What ExecuTorch reads, with other blobs."""
    file = deserialize_pte_binary(data)
    for entry in read_program(data).delegates:
        if entry.key in blobs:
            delegate = file.program.execution_plan[entry.plan_index].delegates[entry.delegate_index]
            inline = file.program.backend_delegate_data[delegate.processed.index]
            inline.data = blobs[entry.key]
    return file


def check_replacing(data: bytes, blobs: Mapping[BlobKey, bytes]) -> bytes:
    """Replaces blobs; ExecuTorch reads these, and everything else as it was."""
    result = replace_blobs(data, blobs)
    assert deserialize_pte_binary(result) == with_blobs(data, blobs)
    again = read_program(result)
    assert again.blobs == {**read_program(data).blobs, **blobs}
    assert [(e.plan_name, e.backend_id, e.key) for e in again.delegates] == [
        (e.plan_name, e.backend_id, e.key) for e in read_program(data).delegates
    ]
    return result


Specs = dict[DelegatePosition, tuple[CompileSpec, ...]]


def specs_of(data: bytes) -> Specs:
    return {entry.position: entry.compile_specs for entry in read_program(data).delegates}


def check_specs(data: bytes, specs: Specs) -> bytes:
    """Replaces compile specs; ExecuTorch reads these, and everything else as it was."""
    result = replace_compile_specs(data, specs)
    file = deserialize_pte_binary(data)
    for (plan, delegate), wanted in specs.items():
        file.program.execution_plan[plan].delegates[delegate].compile_specs = [
            peer.CompileSpec(spec.key, spec.value) for spec in wanted
        ]
    assert deserialize_pte_binary(result) == file
    assert specs_of(result) == {**specs_of(data), **specs}
    assert read_program(result).blobs == read_program(data).blobs
    assert replace_compile_specs(result, specs) == result
    return result


def sized(blob: bytes, change: int) -> bytes:
    """Another blob, longer or shorter."""
    return bytes(byte ^ 0xFF for byte in blob[: len(blob) + change]) + b"+" * change


@lowers
def test_every_delegate_is_found(lowered: bytes) -> None:
    program = read_program(lowered)
    plans = deserialize_pte_binary(lowered).program.execution_plan
    assert [
        (e.plan_index, e.plan_name, e.delegate_index, e.backend_id) for e in program.delegates
    ] == [
        (i, plan.name, j, delegate.id)
        for i, plan in enumerate(plans)
        for j, delegate in enumerate(plan.delegates)
    ]
    keys: dict[str, list[BlobKey]] = {}
    for entry in program.delegates:
        assert entry.location is SEGMENT
        assert program.blobs[entry.key] is entry.blob
        keys.setdefault(entry.plan_name, []).append(entry.key)
        if entry.backend_id == "VulkanBackend":
            split_delegate(entry.blob)
    assert keys["forward"] == keys["again"] and len(keys["forward"]) > 1
    assert not set(keys["forward"]) & set(keys["cpu"]) and keys["cpu"]
    assert len(program.blobs) == len(keys["forward"]) + len(keys["cpu"])


@lowers
@pytest.mark.parametrize("change", [-100, -1, 0, 1, 128, 5000])
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_segment_is_replaced(lowered: bytes, alignment: int, change: int) -> None:
    data = written(deserialize_pte_binary(lowered), alignment=alignment)
    for key, blob in read_program(data).blobs.items():
        new = {key: sized(blob, change)}
        result = check_replacing(data, new)
        assert replace_blobs(result, {key: blob}) == data
        if alignment == 128:
            assert result == written(with_blobs(data, new))


@lowers
def test_executorchs_own_file_is_what_its_writer_would_write(lowered: bytes) -> None:
    assert written(deserialize_pte_binary(lowered)) == lowered
    blobs = read_program(lowered).blobs
    new = {key: sized(blob, 7 * i - 9) for i, (key, blob) in enumerate(blobs.items())}
    result = check_replacing(lowered, new)
    assert result == written(with_blobs(lowered, new))
    assert replace_blobs(result, blobs) == lowered


@lowers
@pytest.mark.parametrize("change", [-100, -1, 0, 1, 128, 5000])
@pytest.mark.parametrize("alignment", [16, 256])
def test_a_blob_in_the_flatbuffer_is_replaced(lowered: bytes, alignment: int, change: int) -> None:
    data = written(deserialize_pte_binary(lowered), extract=False, delegate=alignment)
    for key, blob in read_program(data).blobs.items():
        assert key.location is INLINE
        new = sized(blob, change)
        result = check_replacing(data, {key: new})
        assert result.index(new) % alignment == 0
        if change <= 0:
            assert len(result) == len(data)
        check_replacing(result, {key: blob})


@lowers
def test_the_same_blobs_give_the_same_bytes(lowered: bytes) -> None:
    for extract in (True, False):
        data = written(deserialize_pte_binary(lowered), extract)
        assert replace_blobs(data, {}) == data
        assert replace_blobs(data, read_program(data).blobs) == data
        assert replace_blobs(memoryview(bytearray(data)), read_program(data).blobs) == data
        assert read_program(memoryview(bytearray(data))) == read_program(data)


@lowers
@pytest.mark.parametrize("extract", [True, False])
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_compile_specs_are_replaced(lowered: bytes, alignment: int, extract: bool) -> None:
    data = written(deserialize_pte_binary(lowered), extract, alignment)
    before = specs_of(data)
    new = CompileSpec("texture_limits_x", (64).to_bytes(4, "little"))
    for position, specs in before.items():
        more = check_specs(data, {position: (*specs, new)})
        other = check_specs(more, {position: (*specs, CompileSpec(new.key, b"4444"))})
        assert len(other) == len(more)
        assert check_specs(other, {position: (*specs, new)}) == more
        check_specs(more, {position: ()})
    everywhere = check_specs(data, {position: (new, *s) for position, s in before.items()})
    check_replacing(everywhere, dict.fromkeys(read_program(data).blobs, b"blob" * 999))
    assert replace_compile_specs(data, {}) == replace_compile_specs(data, before) == data
    assert replace_compile_specs(memoryview(bytearray(data)), before) == data


small = st.binary(max_size=300)
spec_lists = st.lists(
    st.builds(
        CompileSpec,
        st.sampled_from(["", "x", "texture_limits_x", "größe"]),
        st.sampled_from([b"", b"\0", b"1234", b"4321"]),
    ),
    max_size=3,
).map(tuple)


@given(
    st.lists(small, min_size=1, max_size=4),
    st.lists(small, max_size=3),
    st.lists(small, max_size=3),
    st.lists(small, max_size=2),
    st.sampled_from(ALIGNMENTS),
    st.booleans(),
    st.data(),
)
@settings(max_examples=100)
def test_any_program_takes_any_blobs(
    blobs: list[bytes],
    constants: list[bytes],
    named: list[bytes],
    mutable: list[bytes],
    alignment: int,
    extract: bool,
    data: st.DataObject,
) -> None:
    file = handmade(blobs, constants, named, mutable)
    before = written(file, extract, alignment)
    old = read_program(before).blobs
    new = {key: data.draw(small) for key in old if data.draw(st.booleans())}
    after = check_replacing(before, new)
    back = check_replacing(after, {key: old[key] for key in new})
    if all(key.location is SEGMENT for key in new):
        assert back == before
    # ExecuTorch's writer keeps an empty blob inline, and equal ones once.
    whole = {**old, **new}
    distinct = len(set(old.values())) == len(set(whole.values())) == len(blobs)
    if extract and alignment == 128 and distinct and b"" not in {*old.values(), *whole.values()}:
        assert after == written(handmade(list(whole.values()), constants, named, mutable))


@given(st.sampled_from(ALIGNMENTS), st.booleans(), st.binary(max_size=20), st.data())
@settings(max_examples=100)
def test_any_program_takes_any_compile_specs(
    alignment: int, extract: bool, tail: bytes, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, 3))
    places = [(plan, delegate) for plan in (0, 1) for delegate in range(count)]
    old, new = ({place: data.draw(spec_lists) for place in places} for _ in range(2))
    some = {place: new[place] for place in places if data.draw(st.booleans())}
    blobs = [data.draw(small) for _ in range(count)]
    file = handmade(blobs, [b"", b"constant"], [b"named"], [b"mutable"], old)
    before = written(file, extract, alignment)
    after = check_specs(before, some)
    assert replace_compile_specs(before + tail, some) == after + tail
    shapes = [
        [[(spec.key, len(spec.value)) for spec in specs[place]] for place in some]
        for specs in (old, new)
    ]
    if shapes[0] == shapes[1]:
        assert len(after) == len(before)
        assert check_specs(after, {place: old[place] for place in some}) == before


@given(st.binary(max_size=100))
def test_what_follows_the_segments_stays(tail: bytes) -> None:
    data = written(handmade([b"blob" * 50], named=[b"named"]))
    (key,) = read_program(data).blobs
    assert replace_blobs(data + tail, {key: b"new" * 500}) == (
        replace_blobs(data, {key: b"new" * 500}) + tail
    )


def test_an_older_header_has_no_size_of_segments() -> None:
    data = bytearray(written(handmade([b"blob" * 50], named=[b"named"])))
    struct.pack_into("<I", data, 12, 24)
    struct.pack_into("<Q", data, 32, 0)
    (key,) = read_program(data).blobs
    result = replace_blobs(data, {key: b"new" * 500})
    assert result[32:40] == bytes(8)
    assert read_program(result).blobs == {key: b"new" * 500}


def table_at(data: bytes | bytearray, *path: int) -> Any:
    """The table that slots and, after a slot that is a vector, indices lead to from the root."""
    table = flatbuffers.table.Table(data, struct.unpack_from("<I", data)[0])
    steps = iter(path)
    for slot in steps:
        index = next(steps, None)
        at = table.Offset(4 + 2 * slot)
        position = table.Indirect(table.Pos + at)
        if index is not None and index >= 0:
            position = table.Indirect(position + 4 + 4 * index)
        table = flatbuffers.table.Table(data, position)
    return table


def vector_at(table: Any, slot: int) -> int:
    """The position of the length of the vector in this slot."""
    position: int = table.Indirect(table.Pos + table.Offset(4 + 2 * slot))
    return position


# Slots of Program, of ExecutionPlan, of BackendDelegate.
PLANS, INLINE_DATA, SEGMENTS, CONSTANT_SEGMENT, NAMED = 1, 3, 4, 5, 7
DELEGATES = 7
PROCESSED, SPECS = 1, 2
TABLE = -1  # in place of an index


def processed_at(data: bytes | bytearray, plan: int, delegate: int) -> Any:
    return table_at(data, PLANS, plan, DELEGATES, delegate, PROCESSED, TABLE)


def place_of_index(processed: Any) -> int:
    position: int = processed.Pos + processed.Offset(6)
    return position


def test_zeros_that_were_left_out() -> None:
    """Both numbers of the first segment, and the offset of the second, have no place to be in."""
    data = bytearray(written(handmade([b"blob"], constants=[b""], named=[b"named"])))
    for plan in (0, 1):
        struct.pack_into("<I", data, place_of_index(processed_at(data, plan, 0)), 0)
    # Nobody else uses the segment if there are no constants in it.
    struct.pack_into("<I", data, vector_at(table_at(data, CONSTANT_SEGMENT, TABLE), 1), 0)
    before = bytes(data)
    for index in (0, 1):
        assert table_at(before, SEGMENTS, index).Offset(4) == 0
    assert table_at(before, SEGMENTS, 0).Offset(6) == 0

    key = BlobKey(SEGMENT, 0)
    assert read_program(before).blobs == {key: b""}
    after = check_replacing(before, {key: b"now there is one" * 20})
    assert deserialize_pte_binary(after).named_data == deserialize_pte_binary(before).named_data
    assert check_replacing(after, {key: b""}).endswith(b"named")


def test_a_vector_that_was_left_out() -> None:
    data = bytearray(written(handmade([b"blob", b"other"]), extract=False))
    table = table_at(data, INLINE_DATA, 0)
    other = table_at(data, INLINE_DATA, 1)
    vtable = table.Pos - struct.unpack_from("<i", data, table.Pos)[0]
    assert vtable == other.Pos - struct.unpack_from("<i", data, other.Pos)[0]
    struct.pack_into("<H", data, vtable + 4, 0)
    first, second = BlobKey(INLINE, 0), BlobKey(INLINE, 1)
    assert read_program(data).blobs == {first: b"", second: b""}
    result = replace_blobs(data, {first: b"a", second: b"b" * 1000})
    assert read_program(result).blobs == {first: b"a", second: b"b" * 1000}
    assert replace_blobs(data, {first: b""}) == data


def test_a_header_without_segments() -> None:
    """Bytes that no segment describes stay where the header says that segments begin."""
    data = bytearray(written(handmade([b"blob"], named=[b"named"]), extract=False))
    for slot in (SEGMENTS, NAMED):
        struct.pack_into("<I", data, vector_at(table_at(data), slot), 0)
    assert data.endswith(b"named")
    key = BlobKey(INLINE, 0)
    result = replace_blobs(data, {key: b"new" * 500})
    assert read_program(result).blobs == {key: b"new" * 500}
    program_size, base = struct.unpack_from("<QQ", result, 16)
    assert result[program_size:] == bytes(base - program_size) + b"named"
    assert base % 128 == 0


def test_what_is_a_program() -> None:
    data = written(handmade([b"blob"]))
    assert is_executorch_program(data) and is_executorch_program(memoryview(data))
    for other in (b"", b"ET12", b"PK\x03\x04" * 9, b"\0\0\0\0ET1", b"\0\0\0\0BP08" + bytes(99)):
        assert not is_executorch_program(other)
        with pytest.raises(SchemaError, match="the file identifier is"):
            read_program(other)


def patched(data: bytes, layout: str, at: int, *values: int) -> bytes:
    result = bytearray(data)
    struct.pack_into(layout, result, at, *values)
    return bytes(result)


def refused(data: bytes, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        read_program(data)
    with pytest.raises(SchemaError, match=message):
        replace_blobs(data, {})


SAMPLE = written(
    handmade([b"blob" * 40, b"other" * 40], constants=[b"", b"constant" * 9], named=[b"named" * 9])
)
INLINE_SAMPLE = written(
    handmade([b"blob" * 40, b"other" * 40], constants=[b"", b"constant" * 9], named=[b"named" * 9]),
    extract=False,
)


@pytest.mark.parametrize(
    ("layout", "at", "value", "message"),
    [
        ("<I", 12, 23, "extended header: its size is 23"),
        ("<Q", 16, 39, "extended header: a flatbuffer of 39 bytes"),
        ("<Q", 16, len(SAMPLE) + 1, "extended header: a flatbuffer of"),
        ("<Q", 24, 64, "extended header: segments at 64 begin inside of"),
        ("<Q", 24, 2**63, "extended header: .* bytes of segments at"),
        ("<Q", 24, 0, r"segments\[0\]: it ends at .*, outside of the 0 bytes"),
        ("<Q", 32, 2**64 - 1, "extended header: 18446744073709551615 bytes of segments"),
        ("<Q", 32, 500, r"segments\[2\]: it ends at .*, outside of the 500 bytes"),
        ("<I", 0, 2**32 - 1, "points outside"),
        ("<I", 0, 0, "0x0"),
    ],
)
def test_a_wrong_header_is_refused(layout: str, at: int, value: int, message: str) -> None:
    refused(patched(SAMPLE, layout, at, value), message)


@pytest.mark.parametrize(("size", "offset"), [(2**64 - 1, 256), (160, 2**64 - 1), (2**63, 2**63)])
def test_a_segment_outside_of_the_file_is_refused(size: int, offset: int) -> None:
    table = table_at(SAMPLE, SEGMENTS, 1)
    data = patched(SAMPLE, "<Q", table.Pos + table.Offset(4), offset)
    data = patched(data, "<Q", table.Pos + table.Offset(6), size)
    refused(data, r"segments\[1\]: it ends at \d+, outside of")


def test_overlapping_segments_are_refused() -> None:
    table = table_at(SAMPLE, SEGMENTS, 2)
    at = table.Pos + table.Offset(4)
    refused(patched(SAMPLE, "<Q", at, 128), r"segments\[2\]: offset 128 is inside of the segment")
    vector = vector_at(table_at(SAMPLE), SEGMENTS)
    twice = patched(SAMPLE, "<I", vector + 12, table_at(SAMPLE, SEGMENTS, 1).Pos - vector - 12)
    refused(twice, r"segments\[2\]: offset \d+ is inside of the segment before")


def test_overlapping_vectors_are_refused() -> None:
    vector = vector_at(table_at(INLINE_SAMPLE), INLINE_DATA)
    first = table_at(INLINE_SAMPLE, INLINE_DATA, 0).Pos
    twice = patched(INLINE_SAMPLE, "<I", vector + 8, first - vector - 8)
    refused(twice, r"backend_delegate_data\[\d\]: it shares bytes with another")


@pytest.mark.parametrize("sample", [SAMPLE, INLINE_SAMPLE])
def test_a_reference_to_nothing_is_refused(sample: bytes) -> None:
    at = place_of_index(processed_at(sample, 1, 1))
    place = r"execution_plan\[1\].delegates\[1\].processed.index: there is no \w+\[4294967295\]"
    refused(patched(sample, "<I", at, 2**32 - 1), place)


def test_an_unknown_location_is_refused() -> None:
    processed = processed_at(SAMPLE, 0, 1)
    data = patched(SAMPLE, "<B", processed.Pos + processed.Offset(4), 2)
    refused(data, r"execution_plan\[0\].delegates\[1\].processed.location: 2 is not a known")


def test_a_vector_that_is_too_long_is_named() -> None:
    root = table_at(SAMPLE)
    refused(patched(SAMPLE, "<I", vector_at(root, SEGMENTS), 2**31), "segments: the vector of")
    inline = table_at(INLINE_SAMPLE, INLINE_DATA, 0)
    data = patched(INLINE_SAMPLE, "<I", vector_at(inline, 0), 2**32 - 1)
    refused(data, r"backend_delegate_data\[0\].data: the vector of 4294967295 items")


def test_a_key_without_delegate_is_refused() -> None:
    for key, place in [
        (BlobKey(SEGMENT, 0), r"segments\[0\]"),
        (BlobKey(SEGMENT, 99), r"segments\[99\]"),
        (BlobKey(INLINE, 0), r"backend_delegate_data\[0\]"),
    ]:
        with pytest.raises(SchemaError, match=f"{place}: no delegate has its blob there"):
            replace_blobs(SAMPLE, {key: b"new"})


def test_bytes_that_named_data_share_are_not_replaced() -> None:
    named = table_at(SAMPLE, NAMED, 0)
    data = patched(SAMPLE, "<I", named.Pos + named.Offset(6), 1)
    blobs = read_program(data).blobs
    assert replace_blobs(data, blobs) == data
    with pytest.raises(SchemaError, match=r"segments\[1\]: something else than delegates uses it"):
        replace_blobs(data, {BlobKey(SEGMENT, 1): b"new"})
    check_replacing(data, {BlobKey(SEGMENT, 2): b"new"})


def test_segments_need_a_header() -> None:
    data = written(handmade([b"blob"]))
    (key,) = read_program(data).blobs
    empty = bytearray(replace_blobs(data, {key: b""}))
    (program_size,) = struct.unpack_from("<Q", empty, 16)
    headless = bytes(empty[:8]) + bytes(32) + bytes(empty[40:program_size])
    assert read_program(headless).blobs == {key: b""}
    assert replace_blobs(headless, {key: b""}) == headless
    with pytest.raises(SchemaError, match="segments: a program without extended header"):
        replace_blobs(headless, {key: b"new"})


def test_tables_that_share_bytes_are_not_patched() -> None:
    """Two empty segments with one table: only one of them may grow."""
    data = written(handmade([b"one", b"two"]))
    first, second = read_program(data).blobs
    data = replace_blobs(data, {first: b"", second: b""})
    table = table_at(data, SEGMENTS, 1).Pos
    vector = vector_at(table_at(data), SEGMENTS)
    data = patched(data, "<I", vector + 4, table - vector - 4)
    assert read_program(data).blobs == {first: b"", second: b""}
    with pytest.raises(SchemaError):
        replace_blobs(data, {first: b"new"})


def field_at(table: Any, slot: int) -> int:
    """The position of a field in its table."""
    position: int = table.Pos + table.Offset(4 + 2 * slot)
    return position


def delegate_at(data: bytes | bytearray, plan: int, delegate: int) -> Any:
    return table_at(data, PLANS, plan, DELEGATES, delegate)


def pointed(data: bytes, at: int, target: int) -> bytes:
    """With an offset that leads elsewhere, which is further back."""
    assert target > at
    return patched(data, "<I", at, target - at)


def with_vtable(data: bytes, table: Any, entries: Sequence[int], room: int) -> bytes:
    """With a vtable of the table's own, written over the bytes at `room`."""
    room += -room % 4
    result = bytearray(data)
    (extent,) = struct.unpack_from("<H", data, table.Pos - _vtable_lead(data, table) + 2)
    struct.pack_into(f"<HH{len(entries)}H", result, room, 4 + 2 * len(entries), extent, *entries)
    struct.pack_into("<i", result, table.Pos, table.Pos - room)
    return bytes(result)


def _vtable_lead(data: bytes, table: Any) -> int:
    (lead,) = struct.unpack_from("<i", data, table.Pos)
    return int(lead)


def entries_of(table: Any, slots: int) -> list[int]:
    return [table.Offset(4 + 2 * slot) for slot in range(slots)]


SAME, LONGER = (CompileSpec("key", b"other"),), (CompileSpec("key", b"longer"),)
NEWER = "compile_specs: its tables have fields of a newer schema, which would be lost"
ROOM = INLINE_SAMPLE.index(b"blobblob")


def test_compile_specs_that_delegates_share_are_written_apart() -> None:
    """Those of two delegates are one vector, or have one value: one of them changes alone."""
    first, second = delegate_at(SAMPLE, 0, 0), delegate_at(SAMPLE, 0, 1)
    ends = sorted((vector_at(d, SPECS), field_at(d, SPECS)) for d in (first, second))
    one_vector = pointed(SAMPLE, ends[0][1], ends[1][0])
    specs = [table_at(SAMPLE, PLANS, 0, DELEGATES, i, SPECS, 0) for i in (0, 1)]
    ends = sorted((vector_at(s, 1), field_at(s, 1)) for s in specs)
    one_value = pointed(SAMPLE, ends[0][1], ends[1][0])
    for data in (one_vector, one_value):
        for position in ((0, 0), (0, 1)):
            for new in (SAME, LONGER, ()):
                check_specs(data, {position: new})
        check_specs(data, {(0, 0): SAME, (0, 1): LONGER})


def test_delegates_that_are_one_table_change_together_or_not_at_all() -> None:
    elements = [vector_at(table_at(SAMPLE, PLANS, 0), DELEGATES) + 4 + 4 * i for i in (0, 1)]
    targets = [delegate_at(SAMPLE, 0, i).Pos for i in (0, 1)]
    data = pointed(SAMPLE, elements[0], targets[1])
    for new in (SAME, LONGER):
        check_specs(data, {(0, 0): new, (0, 1): new})
        with pytest.raises(SchemaError, match="share bytes: not one of them can be changed"):
            replace_compile_specs(data, {(0, 0): new})


def test_compile_specs_that_were_left_out() -> None:
    delegate = delegate_at(INLINE_SAMPLE, 0, 1)
    entries = entries_of(delegate, 3)
    data = with_vtable(INLINE_SAMPLE, delegate, entries[:2], ROOM)
    assert specs_of(data)[0, 1] == ()
    check_specs(data, {(0, 1): SAME})
    check_specs(data, {(0, 1): LONGER, (1, 1): ()})

    newer = with_vtable(INLINE_SAMPLE, delegate, [*entries[:2], 0, 4], ROOM)
    with pytest.raises(SchemaError, match=rf"execution_plan\[0\].delegates\[1\].{NEWER}"):
        replace_compile_specs(newer, {(0, 1): SAME})
    check_specs(newer, {(0, 0): SAME})


def test_values_that_were_left_out() -> None:
    spec = table_at(INLINE_SAMPLE, PLANS, 0, DELEGATES, 1, SPECS, 0)
    data = with_vtable(INLINE_SAMPLE, spec, entries_of(spec, 1), ROOM)
    assert specs_of(data)[0, 1] == (CompileSpec("key", b""),)
    check_specs(data, {(0, 1): SAME})
    check_specs(data, {(0, 1): ()})


def test_fields_of_a_newer_schema_stay_or_the_change_is_refused() -> None:
    delegate = delegate_at(INLINE_SAMPLE, 0, 1)
    data = with_vtable(INLINE_SAMPLE, delegate, [*entries_of(delegate, 3), 4], ROOM)
    for new in (SAME, LONGER):
        assert delegate_at(check_specs(data, {(0, 1): new}), 0, 1).Offset(10) == 4

    spec = table_at(INLINE_SAMPLE, PLANS, 0, DELEGATES, 1, SPECS, 0)
    data = with_vtable(INLINE_SAMPLE, spec, [*entries_of(spec, 2), 4], ROOM)
    same = check_specs(data, {(0, 1): SAME})
    assert table_at(same, PLANS, 0, DELEGATES, 1, SPECS, 0).Offset(8) == 4
    with pytest.raises(SchemaError, match=rf"execution_plan\[0\].delegates\[1\].{NEWER}"):
        replace_compile_specs(data, {(0, 1): LONGER})


def test_a_value_that_is_a_blob_as_well_is_not_written_over() -> None:
    blob = table_at(INLINE_SAMPLE, INLINE_DATA, 0)
    spec = table_at(INLINE_SAMPLE, PLANS, 0, DELEGATES, 0, SPECS, 0)
    data = pointed(INLINE_SAMPLE, field_at(blob, 0), vector_at(spec, 1))
    assert read_program(data).blobs[BlobKey(INLINE, 0)] == b"value"
    with pytest.raises(SchemaError, match="share bytes"):
        replace_compile_specs(data, {(0, 0): SAME})
    check_specs(data, {(0, 0): LONGER})


@pytest.mark.parametrize("position", [(2, 0), (0, 2), (-1, 0)])
def test_a_position_without_delegate_is_refused(position: DelegatePosition) -> None:
    with pytest.raises(SchemaError, match="there is no such delegate"):
        replace_compile_specs(SAMPLE, {position: SAME})


def test_a_file_without_header_takes_compile_specs() -> None:
    data = written(handmade([b"blob"]), extract=False)
    assert data[8:12] != b"eh00"
    for new in (SAME, LONGER):
        check_specs(data, {(0, 0): new})


def attempt(data: bytes) -> None:
    """Whatever the bytes are: an error, or blobs and compile specs that can be replaced."""
    try:
        blobs = read_program(data).blobs
    except SchemaError:
        return
    assert sum(map(len, blobs.values())) <= len(data)
    assert replace_blobs(data, blobs) == data
    new = {key: blob + b"more" * 50 for key, blob in blobs.items()}
    try:
        result = replace_blobs(data, new)
    except SchemaError:
        return
    assert read_program(result).blobs == new
    assert len(result) <= 8 * len(data) + 8 * sum(map(len, new.values()))


def attempt_specs(data: bytes) -> None:
    try:
        old = specs_of(data)
    except SchemaError:
        return
    assert replace_compile_specs(data, old) == data
    longer = {place: (*specs, CompileSpec("more", b"more")) for place, specs in old.items()}
    inverted = {
        place: tuple(CompileSpec(s.key, bytes(b ^ 255 for b in s.value)) for s in specs)
        for place, specs in old.items()
    }
    for new in (longer, inverted):
        try:
            result = replace_compile_specs(data, new)
        except SchemaError:
            continue
        assert specs_of(result) == new
        assert read_program(result).blobs == read_program(data).blobs
        assert len(result) <= 8 * len(data) + 100 * len(new)


samples = pytest.mark.parametrize("sample", [SAMPLE, INLINE_SAMPLE], ids=["segments", "inline"])


@samples
def test_every_truncation(sample: bytes) -> None:
    for length in range(len(sample)):
        with pytest.raises(SchemaError):
            read_program(sample[:length])


@samples
def test_flipped_bits(sample: bytes) -> None:
    (size,) = struct.unpack_from("<Q", sample, 16)
    for at in range(size):
        for bit in (0, 2, 7):
            attempt(patched(sample, "<B", at, sample[at] ^ 1 << bit))
            attempt_specs(patched(sample, "<B", at, sample[at] ^ 1 << bit))


@samples
@given(data=st.data())
@settings(max_examples=EXAMPLES)
def test_altered_bytes(sample: bytes, data: st.DataObject) -> None:
    altered = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(altered) - 1))
        patch = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.integers(-64, 64).map(lambda number: struct.pack("<i", number)),
                st.integers(0, len(sample)).map(lambda number: struct.pack("<Q", number)),
                st.sampled_from([b"\xff" * 4, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80"]),
            )
        )
        altered[at : at + len(patch)] = patch
    attempt(bytes(altered[: data.draw(st.integers(0, len(altered)))]))
    attempt(bytes(altered))
    attempt_specs(bytes(altered))


@samples
@given(noise=st.binary(max_size=400), kept=st.integers(0, 60))
@settings(max_examples=EXAMPLES)
def test_noise(sample: bytes, noise: bytes, kept: int) -> None:
    attempt(sample[:kept] + noise)


def test_shared_tables_cannot_blow_up() -> None:
    """A thousand plans of a thousand delegates each, if every offset were followed."""
    file = handmade([b"blob"])
    plan = file.program.execution_plan[0]
    plan.delegates = [copy.deepcopy(plan.delegates[0]) for _ in range(1000)]
    empty = peer.ExecutionPlan("", plan.container_meta_type, [], [], [], [], [], [], [])
    file.program.execution_plan = [plan] + [empty] * 1000
    data = bytearray(written(file))
    assert len(read_program(data).delegates) == 1000
    target = table_at(data, PLANS, 0).Pos
    vector = vector_at(table_at(data), PLANS)
    for index in range(1001):
        at = vector + 4 + 4 * index
        struct.pack_into("<I", data, at, target - at)
    tracemalloc.start()
    try:
        with pytest.raises(SchemaError, match="refers to its own bytes too many times over"):
            read_program(bytes(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(data)


@pytest.mark.parametrize("extract", [True, False])
def test_large_blobs_are_copied_few_times(extract: bool) -> None:
    size = 1 << 23
    data = written(handmade([bytes(size)]), extract)
    (key,) = read_program(data).blobs
    blob = b"\1" * (size - 5)
    tracemalloc.start()
    try:
        result = replace_blobs(data, {key: blob})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read_program(result).blobs == {key: blob}
    assert peak < (1.1 if extract else 2.1) * size
