"""Packages that only an extra installs: asked for by name, and kept quiet."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

from planner.errors import PROJECT, MissingExtraError

# As in: matplotlib<4,>=3.10; extra == "plot"
_OPTIONAL = re.compile(r"""(?P<package>[\w.-]+)[^;]*;.*\bextra\s*==\s*["'](?P<extra>[\w-]+)["']""")


def require(what: str, *modules: str) -> None:
    """Raises ``MissingExtraError`` if a module that ``what`` needs is not installed.

    The modules are looked up, not imported.
    """
    for module in modules:
        if find_spec(module) is None:
            raise missing(what, module)


def missing(what: str, module: str) -> MissingExtraError:
    """The error for a module that ``what`` could not import."""
    package = _normal(module.partition(".")[0])
    return MissingExtraError(what, package, extras().get(package))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps warnings of torch and ExecuTorch, and logs below errors, away from the terminal."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)


def extras() -> dict[str, str]:
    """The extra of each optional package, from the metadata of the installed project.

    A package of several extras gets the first; a checkout that is not installed has none.
    """
    try:
        wanted = requires(PROJECT) or []
    except PackageNotFoundError:
        return {}
    found: dict[str, str] = {}
    for requirement in wanted:
        if match := _OPTIONAL.match(requirement):
            found.setdefault(_normal(match["package"]), match["extra"])
    found.pop(_normal(PROJECT), None)  # extras that are made of others
    return found


def _normal(name: str) -> str:
    """A package's name in the form that registries compare; modules need no other change."""
    return re.sub(r"[-_.]+", "-", name).lower()
