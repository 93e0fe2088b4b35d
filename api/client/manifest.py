"""What a user hands in: a manifest in TOML, or a folder with options of the command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from api.files import read_input
from planner.costs.profile_file import builtin_names, load_profile
from planner.errors import InputError, OptionError
from planner.files.kinds import is_lowered

_SUFFIXES: Final = (".pt2", ".pte")
_OPTIONS: Final = (
    *(
        "profiles",
        "devices",
        "objectives",
        "texture_limits",
        "buffer_limits",
        "without_layouts",
        "runtimes",
    ),
    *("targets", "compile_options", "limits"),
)


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to be submitted: files by the names that they get, and the options to vary."""

    name: str
    files: dict[str, Path]
    options: dict[str, Any]


def read_submission(path: Path, options: dict[str, Any]) -> Submission:
    """The job that a manifest describes, or that a folder's programs make.

    ``options`` come from the command line; those that a manifest has too are refused. Raises
    ``InputError`` and ``OptionError``.
    """
    if path.is_dir():
        files = {str(file.relative_to(path)): file for file in sorted(_programs(path))}
        if not files:
            raise InputError(f"{path} holds no .pt2, .pte or VkGraph: name another folder")
        return Submission(path.resolve().name or "job", files, _written(options, Path()))
    return _manifest(path, options)


def _manifest(path: Path, options: dict[str, Any]) -> Submission:
    try:
        document = tomllib.loads(read_input(path).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is neither a folder nor a manifest in TOML: {error}") from error
    unknown = sorted(set(document) - {"name", "inputs", *_OPTIONS})
    if unknown:
        raise OptionError(
            f"{path}: unknown key {unknown[0]!r}: use name, inputs, {', '.join(_OPTIONS)}"
        )
    twice = sorted(set(document) & set(options))
    if twice:
        raise OptionError(f"{path} has {twice[0]} already: leave it out there or here")
    patterns = document.get("inputs")
    if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
        raise OptionError(f"{path}: inputs is not a list of paths: write inputs = ['*.pte']")
    files: dict[str, Path] = {}
    for pattern in patterns:
        found = _matching(path.parent, pattern)
        if not found:
            raise InputError(f"{path}: there is no file {pattern}: name files that are there")
        files |= found
    varied = {key: document[key] for key in _OPTIONS if key in document} | options
    for key, values in varied.items():
        if not isinstance(values, list) or not values:
            raise OptionError(f"{path}: {key} is not a list of values: write {key} = [...]")
    return Submission(str(document.get("name", path.stem)), files, _written(varied, path.parent))


def _matching(folder: Path, pattern: str) -> dict[str, Path]:
    """The files of a pattern, by their names as seen from the folder."""
    if Path(pattern).is_absolute():
        root = Path(Path(pattern).anchor)
        found: Iterable[Path] = root.glob(str(Path(pattern).relative_to(root)))
        return {str(file): file for file in sorted(found) if file.is_file()}
    return {str(f.relative_to(folder)): f for f in sorted(folder.glob(pattern)) if f.is_file()}


def _programs(folder: Path) -> Iterable[Path]:
    """The programs in a folder and those below it; a VkGraph is known by its bytes."""
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        if file.suffix in _SUFFIXES:
            yield file
            continue
        with file.open("rb") as opened:
            if is_lowered(opened.read(8)):
                yield file


def _written(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The options as a server takes them: profiles that are files as documents."""
    profiles = options.get("profiles")
    if profiles is None:
        return options
    return options | {"profiles": [_profile(profile, folder) for profile in profiles]}


def _profile(name: Any, folder: Path) -> Any:
    if not isinstance(name, str) or name in builtin_names():
        return name
    return json.loads(load_profile(str(folder / name)).to_json())
