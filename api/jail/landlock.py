"""Landlock: a process gives up files, TCP and other processes, for good.

No library on PyPI has more than the rules for files. The calls and their structures are Linux's
own: ``include/uapi/linux/landlock.h``, described in ``Documentation/userspace-api/landlock.rst``.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from enum import IntFlag
from pathlib import Path
from typing import Final

from api.jail.libc import libc

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1

_TCP: Final = 0b11
"""To bind and to connect."""
_SCOPES: Final = 0b11
"""Abstract UNIX sockets and signals, to processes outside."""


class Access(IntFlag):
    """What may be done with files, as bits of the interface."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_OF_FILES: Final = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE
"""What a rule for a single file can allow."""

READ: Final = Access.READ_FILE | Access.READ_DIR
RUN: Final = READ | Access.EXECUTE
WRITE: Final = (
    READ
    | Access.WRITE_FILE
    | Access.TRUNCATE
    | Access.MAKE_REG
    | Access.MAKE_DIR
    | Access.REMOVE_FILE
    | Access.REMOVE_DIR
)

_ADDED_BY_VERSION: Final = {2: Access.REFER, 3: Access.TRUNCATE, 5: Access.IOCTL_DEV}


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def landlock_version() -> int:
    """The version of this kernel's interface; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    found: int = libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    return max(0, found)


def restrict_self(allowed: Iterable[tuple[Path, Access]]) -> None:
    """Leaves this process those files, by the folders that they are in, and nothing else.

    Files that are open stay so. No TCP (from version 4), and no signals to processes outside
    (from version 6). Paths that do not exist are passed over. Needs ``no_new_privs``, or to be
    root. Raises ``OSError``.
    """
    version = landlock_version()
    handled = Access(0)
    for access in Access:
        handled |= access
    for since, added in _ADDED_BY_VERSION.items():
        if version < since:
            handled &= ~added
    attr = _RulesetAttr(
        handled_access_fs=handled,
        handled_access_net=_TCP if version >= 4 else 0,
        scoped=_SCOPES if version >= 6 else 0,
    )
    # A kernel refuses fields that it does not know.
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(size), 0)
    try:
        for path, access in allowed:
            _allow(ruleset, path, access & handled)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, access: Access) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            access &= _OF_FILES
        rule = _PathBeneathAttr(allowed_access=access, parent_fd=descriptor)
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *args: object) -> int:
    found: int = libc().syscall(number, *args)
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return found
