"""Zip archives that may be hostile: their directory and members are read within bounds.

Python's ``zipfile`` reads a whole directory, however large, before it can be looked at. Here the
end of the archive is read first, as section 4.3.16 of PKWARE's APPNOTE has it.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from typing import BinaryIO, Final

from planner.errors import InputError
from schema.frozen import frozen

_MOST_ENTRIES: Final = 100_000
_MOST_DIRECTORY_BYTES: Final = 32 * 2**20
_EXPANSION: Final = 8
"""How many times larger than the archive its members may be together."""

_SLACK_BYTES: Final = 64 * 2**20
_COMMENT_BYTES: Final = 65_535
_END: Final = struct.Struct("<4s4H2LH")
_LOCATOR: Final = struct.Struct("<4sLQL")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_UNREADABLE: Final = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError)
"""What ``zipfile`` raises for archives that it cannot read."""

_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@frozen
class Archive:
    """The members of an archive by their names below its one folder."""

    zip: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]
    name: str

    def read(self, member: str) -> bytes:
        """A member's bytes; raises ``InputError`` for one that is missing or damaged."""
        found = self.members.get(member)
        if found is None:
            raise InputError(f"{self.name} has no {member}: export it again")
        try:
            return self.zip.read(found)
        except (*_UNREADABLE, EOFError, zlib.error) as error:
            raise InputError(f"{self.name} is damaged: its {member} cannot be read") from error


def names_in(file: BinaryIO, name: str) -> list[str]:
    """The names of an archive's members; raises ``InputError`` as ``open_archive``."""
    return _directory(file, name).namelist()


def open_archive(file: BinaryIO, name: str) -> Archive:
    """The archive in a file.

    Raises ``InputError`` for what is no zip archive, and for one that has too many members or too
    large ones, links, encrypted members, members of one name, or such outside of its folder.
    """
    archive = _directory(file, name)
    infos = archive.infolist()
    members: dict[str, zipfile.ZipInfo] = {}
    root = infos[0].filename.split("/", 1)[0] if infos else ""
    for info in infos:
        found = _member(info, root, name)
        if found in members:
            raise InputError(f"{name} is refused: it has two members {found!r}")
        members[found] = info
    return Archive(archive, members, name)


def _directory(file: BinaryIO, name: str) -> zipfile.ZipFile:
    """An archive whose directory and members are no larger than any program's."""
    entries, size = _end_of(file, name)
    if entries > _MOST_ENTRIES or size > _MOST_DIRECTORY_BYTES:
        raise InputError(
            f"{name} is refused: it is a zip archive of {entries} members, more than any program"
        )
    file.seek(0)
    try:
        archive = zipfile.ZipFile(file)
    except _UNREADABLE as error:
        raise _no_archive(name) from error
    infos = archive.infolist()
    if len(infos) > entries:
        raise InputError(f"{name} is refused: its zip directory says other things than its end")
    _check_sizes(infos, file.seek(0, 2), name)
    return archive


def _no_archive(name: str) -> InputError:
    return InputError(f"{name} is not a zip archive: hand in a file written by torch.export.save")


def _end_of(file: BinaryIO, name: str) -> tuple[int, int]:
    """How many entries the directory has, and how many bytes, as the archive's end says."""
    size = file.seek(0, 2)
    start = max(0, size - _COMMENT_BYTES - _END.size)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise _no_archive(name)
    _, _, _, _, entries, directory, _, _ = _END.unpack_from(tail, at)
    locator = start + at - _LOCATOR.size
    if locator >= 0:
        file.seek(locator)
        magic, _, offset, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
        if magic == b"PK\6\7":
            file.seek(offset)
            found = file.read(_END64.size)
            if len(found) < _END64.size or not found.startswith(b"PK\6\6"):
                raise _no_archive(name)
            *_, entries, directory, _ = _END64.unpack(found)
    return entries, directory


def _check_sizes(infos: list[zipfile.ZipInfo], size: int, name: str) -> None:
    stored = sum(info.compress_size for info in infos)
    unpacked = sum(info.file_size for info in infos)
    # Members that overlap are longer together than the file that they are in.
    if stored > size or unpacked > _EXPANSION * size + _SLACK_BYTES:
        raise InputError(
            f"{name} is refused: its {size} bytes would become {unpacked}, as no program's do"
        )


def _member(info: zipfile.ZipInfo, root: str, name: str) -> str:
    """The name of a member below the archive's folder."""
    path = info.filename
    parts = path.split("/")
    is_link = stat.S_ISLNK(info.external_attr >> 16)
    if is_link or info.flag_bits & 1 or info.compress_type not in _METHODS:
        what = "is a link" if is_link else "is encrypted, or compressed in another way than others"
        raise InputError(f"{name} is refused: its member {path!r} {what}")
    is_below = len(parts) > 1 and parts[0] == root and bool(root)
    if not is_below or not path.isascii() or {"", ".", ".."} & set(parts) or "\\" in path:
        raise InputError(f"{name} is refused: its member {path!r} is not below one folder")
    return "/".join(parts[1:])
