"""Zip archives that are hostile are refused before they take memory."""

from __future__ import annotations

import io
import stat
import struct
import tracemalloc
import zipfile

import pytest

from planner.errors import InputError
from planner.files.vetting.archive import names_in, open_archive


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def refused(data: bytes) -> str:
    with pytest.raises(InputError) as found:
        open_archive(io.BytesIO(data), "x.pt2")
    return str(found.value)


def test_members_are_read_by_their_names_below_the_folder() -> None:
    archive = open_archive(io.BytesIO(zipped({"m/a": b"1", "m/b/c": b"2"})), "x.pt2")
    assert list(archive.members) == ["a", "b/c"]
    assert archive.read("b/c") == b"2"
    with pytest.raises(InputError, match=r"x\.pt2 has no d: export it again"):
        archive.read("d")


@pytest.mark.parametrize("data", [b"", b"PK", b"text", zipped({"m/a": b"1"})[:-30]])
def test_what_is_no_archive_is_told(data: bytes) -> None:
    assert refused(data).startswith("x.pt2 is not a zip archive: hand in a file written by")


@pytest.mark.parametrize(
    "name", ["a", "/m/a", "m/../a", "m//a", "m/./a", "n/../../etc/passwd", "m\\a", "m/ä", "m/"]
)
def test_members_outside_of_the_folder_are_refused(name: str) -> None:
    assert "is not below one folder" in refused(zipped({"m/x": b"", name: b"1"}))


def test_links_and_members_of_one_name_are_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        link = zipfile.ZipInfo("m/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert "its member 'm/link' is a link" in refused(file.getvalue())
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("m/a", "1")
        archive.writestr("m/a", "2")
    assert "it has two members 'a'" in refused(file.getvalue())


def test_an_encrypted_member_is_refused() -> None:
    data = bytearray(zipped({"m/a": b"1"}))
    directory = data.rindex(b"PK\1\2")
    data[directory + 8] |= 1
    assert "is encrypted, or compressed in another way" in refused(bytes(data))


def test_a_bomb_is_refused_by_what_its_directory_says() -> None:
    bomb = zipped({"m/a": bytes(200 * 2**20)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**20
    assert "would become 209715200, as no program's do" in refused(bomb)


def test_members_that_overlap_are_refused() -> None:
    """Many entries of one stored member: each would be read in full."""
    data = zipped({"m/a": bytes(1000)})
    start = data.rindex(b"PK\1\2")
    end = data.rindex(b"PK\5\6")
    entry = data[start:end]
    many = b"".join(entry.replace(b"m/a", b"m/%c" % (97 + n)) for n in range(20))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 20, 20, len(many), start, 0)
    assert "as no program's do" in refused(data[:start] + many + tail)


def test_a_directory_of_millions_is_refused_without_reading_it() -> None:
    data = zipped({"m/a": b""})
    start, end = data.rindex(b"PK\1\2"), data.rindex(b"PK\5\6")
    count = 2_000_000
    entries = data[start:end] * count
    tail64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(entries), start
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + len(entries), 1)
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    hostile = io.BytesIO(data[:start] + entries + tail64 + locator + tail)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="a zip archive of 2000000 members, more than any"):
            names_in(hostile, "x.pt2")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_an_end_that_says_less_than_the_directory_is_refused() -> None:
    data = bytearray(zipped({"m/a": b"", "m/b": b""}))
    end = data.rindex(b"PK\5\6")
    struct.pack_into("<2H", data, end + 8, 1, 1)
    assert "says other things than its end" in refused(bytes(data))


def test_a_spoilt_member_is_told() -> None:
    data = bytearray(zipped({"m/a": b"12345678"}))
    data[data.index(b"1234")] ^= 1
    archive = open_archive(io.BytesIO(bytes(data)), "x.pt2")
    with pytest.raises(InputError, match=r"x\.pt2 is damaged: its a cannot be read"):
        archive.read("a")
