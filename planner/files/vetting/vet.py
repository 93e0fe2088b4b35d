"""Vets an exported program: what torch gets is written anew, from what is known to be harmless.

A ``.pt2`` is code for those who load it: it can name any Python function, has pickles in it, and
texts that torch evaluates. Here it is read without torch and without pickle. The archive that is
handed on has the program's JSON with known fields only, and tensors as plain bytes; no sample
inputs, no libraries, no extra files. Two readers of one zip archive can see different things, so
the archive that was looked at is not the one that torch opens.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Collection, Mapping
from typing import Any, Final

from planner.errors import InputError, Remedy
from planner.files.vetting.archive import Archive, open_archive
from planner.files.vetting.checks import RefusedError, boolean, mapping, path, record, text, within
from planner.files.vetting.program import Vetted, tensor_meta, vet_program

_MODEL: Final = "models/model.json"
_PLAIN: Final = re.compile(r"(?:weight|tensor)_\d+", re.ASCII)
_ELEMENT_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16} | {
    **{12: 1, 13: 2, 28: 2, 29: 1, 30: 1, 31: 1, 32: 1, 33: 1, 34: 4, 35: 8}
}
"""By dtype. Source: torch 2.13, ``torch/_export/serde/schema.py``, ``ScalarType``."""

_LIBRARIES: Final = "data/aotinductor/"
_PAYLOADS: Final = {
    "data/weights/": "model_weights_config.json",
    "data/constants/": "model_constants_config.json",
}
_SAMPLE_INPUTS: Final = "data/sample_inputs/model.pt"


def vet(data: bytes, name: str, namespaces: Collection[str] | None = ()) -> tuple[bytes, Vetted]:
    """A ``.pt2`` for torch, made of what was vetted in this one, and what it calls.

    ``namespaces`` of operators are allowed besides those that are known; None allows all. Raises
    ``InputError`` for a file that is damaged, or has anything that could do more than compute.
    """
    archive = open_archive(io.BytesIO(data), name)
    _check_kind(archive)
    try:
        document = within(_MODEL, _parsed, archive.read(_MODEL))
        found = within(_MODEL, lambda value: vet_program(value, namespaces), document)
        payloads = {folder: _configuration(archive, folder) for folder in _PAYLOADS}
    except RefusedError as error:
        where = " / ".join(error.where)
        raise InputError(f"{name} is refused: {where} {error.why}", Remedy.TRUST_INPUT) from None
    except RecursionError:
        raise InputError(f"{name} is refused: its graph is nested too deeply") from None
    return _written(archive, found, payloads), found


def _check_kind(archive: Archive) -> None:
    if archive.members.get("archive_format") is None or _MODEL not in archive.members:
        raise InputError(
            f"{archive.name} has no program that torch.export.save of this release of torch "
            "writes: export it again"
        )
    libraries = next((m for m in archive.members if m.startswith(_LIBRARIES)), None)
    if libraries is not None:
        raise InputError(
            f"{archive.name} is refused: {libraries} is a compiled library", Remedy.TRUST_INPUT
        )


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RefusedError("is no JSON") from error


def _configuration(archive: Archive, folder: str) -> dict[str, Any]:
    """What a folder says of its tensors: each is the plain bytes of a member."""
    listed = folder + _PAYLOADS[folder]
    payload = record(
        {
            "path_name": text,
            "is_param": boolean,
            "use_pickle": boolean,
            "tensor_meta": tensor_meta,
        }
    )

    def tensor(value: Any) -> Any:
        if isinstance(value, dict) and (value.get("use_pickle") or not _is_plain(value)):
            raise RefusedError("is no plain tensor, but a pickle, which can run anything")
        found = payload(value)
        size = archive.members.get(folder + found["path_name"])
        if size is None:
            raise RefusedError(f"is {found['path_name']}, which is missing")
        within(
            "tensor_meta", lambda meta: _check_extent(meta, size.file_size), found["tensor_meta"]
        )
        return found

    check = record({"config": mapping(path, tensor)})
    found: dict[str, Any] = within(listed, lambda data: check(_parsed(data)), archive.read(listed))
    return found


def _is_plain(value: dict[str, Any]) -> bool:
    name = value.get("path_name")
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None


def _check_extent(meta: dict[str, Any], size: int) -> None:
    """Sees to it that a tensor lies within its bytes, and is not made up where there are none."""
    try:
        sizes, strides = ([s["as_int"] for s in meta[key]] for key in ("sizes", "strides"))
        offset = meta["storage_offset"]["as_int"]
    except KeyError:
        raise RefusedError("has sizes that are not fixed") from None
    if len(sizes) != len(strides) or min([*sizes, *strides, offset], default=0) < 0:
        raise RefusedError("has sizes or strides that no tensor has")
    if not all(sizes):
        return
    element = _ELEMENT_BYTES.get(meta["dtype"])
    if element is None:
        raise RefusedError(f"has the dtype {meta['dtype']}, which is not known")
    last = offset + sum((n - 1) * stride for n, stride in zip(sizes, strides, strict=True))
    if (last + 1) * element > size:
        raise RefusedError(f"is larger than the {size} bytes that it has")


def _written(archive: Archive, found: Vetted, payloads: Mapping[str, dict[str, Any]]) -> bytes:
    """An archive as torch's own writer lays it out, with nothing but what was vetted."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as new:

        def put(member: str, data: bytes) -> None:
            new.writestr(zipfile.ZipInfo(f"program/{member}"), data)

        for folder, config in payloads.items():
            for path_name in sorted({each["path_name"] for each in config["config"].values()}):
                put(folder + path_name, archive.read(folder + path_name))
            put(folder + _PAYLOADS[folder], json.dumps(config).encode())
        put(_MODEL, json.dumps(found.document).encode())
        # Pickled, and no plan needs them: torch takes no bytes for none.
        put(_SAMPLE_INPUTS, b"")
        put("archive_format", b"pt2")
        put("archive_version", b"0")
        put(".data/version", b"6\n")
        put("byteorder", b"little")
    return file.getvalue()
