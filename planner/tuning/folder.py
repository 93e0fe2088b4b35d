"""An exploration's folder: variants to run on a device, and a manifest that describes them.

Each ``variant-N.pte`` (``.bpte`` of a bundled program) is run with ExecuTorch's event tracer, and
its ETDump is stored next to it as ``variant-N.etdump``. The folder can then be imported as a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path, PurePath
from typing import Any, Final

from planner.errors import InputError
from planner.files.kinds import FileKind, kind_of
from planner.options import PlanOptions
from planner.tuning.variants import Variant
from schema.frozen import frozen

MANIFEST: Final = "manifest.json"
_FORMAT: Final = "layout-planner-exploration"
_VERSION: Final = 1
_LISTED: Final = 50


@frozen
class MeasuredVariant:
    """A variant in a folder; ``etdump`` is None where it was not measured yet."""

    name: str
    program: bytes = field(repr=False)
    etdump_name: str
    etdump: bytes | None = field(repr=False)


def variant_name(number: int, program: bytes) -> str:
    """The file of a variant, whose numbers begin with 1."""
    return f"variant-{number}.{'bpte' if kind_of(program) is FileKind.BUNDLED else 'pte'}"


def exploration_files(
    variants: Sequence[Variant], source: str, data: bytes, options: PlanOptions, seed: int
) -> dict[str, bytes]:
    """The folder's files by name; times in the manifest are ns per inference.

    ``source`` and ``data`` are the name and the bytes of the explored model.
    """
    files = {}
    described = []
    for number, variant in enumerate(variants, 1):
        name = variant_name(number, variant.program)
        files[name] = variant.program
        described.append(
            {
                "program": name,
                "sha256": hashlib.sha256(variant.program).hexdigest(),
                "etdump": f"variant-{number}.etdump",
                "transitions": variant.transitions,
                "predicted_ns": round(variant.predicted),
                "saving_ns": None if variant.saving is None else round(variant.saving),
                "untried": len(variant.untried),
                "untried_calls": [
                    {
                        "delegate": trial.delegate,
                        "operator": trial.call.call.operator,
                        "position": trial.call.position,
                        "representations": {p: str(r) for p, r in trial.call.operands},
                        "guess_ns": round(trial.guess),
                        "least_ns": round(trial.least),
                    }
                    for trial in variant.untried[:_LISTED]
                ],
            }
        )
    manifest = {
        "format": _FORMAT,
        "version": _VERSION,
        "source": {"name": source, "sha256": hashlib.sha256(data).hexdigest()},
        "costs": {"name": options.costs.name, "hash": options.costs.digest},
        "seed": seed,
        "variants": described,
    }
    files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    return files


def read_exploration(folder: Path) -> tuple[MeasuredVariant, ...]:
    """The variants in a folder, with their measurements.

    Raises ``InputError`` for a folder without a manifest, a damaged manifest, and a program that is
    missing or was replaced.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["format"] != _FORMAT or manifest["version"] != _VERSION:
            raise InputError(
                f"{path} is not a manifest of this release ({_FORMAT}, version {_VERSION}): "
                "explore again"
            )
        return tuple(_measured(folder, variant) for variant in manifest["variants"])
    except OSError as error:
        raise InputError(
            f"cannot read {error.filename}: {error.strerror}; name a folder that 'explore' wrote"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _measured(folder: Path, variant: Any) -> MeasuredVariant:
    name, etdump_name = (_file_name(variant[key]) for key in ("program", "etdump"))
    program = (folder / name).read_bytes()
    if hashlib.sha256(program).hexdigest() != variant["sha256"]:
        raise InputError(
            f"{folder / name} is not the program that 'explore' wrote there, so its times could be "
            "those of another: put the original back"
        )
    etdump = folder / etdump_name
    return MeasuredVariant(
        name, program, etdump_name, etdump.read_bytes() if etdump.exists() else None
    )


def _file_name(value: Any) -> str:
    if not isinstance(value, str) or not value or PurePath(value).name != value:
        raise ValueError(f"{value!r} is not a file name")
    return value
