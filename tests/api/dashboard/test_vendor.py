"""The JavaScript libraries of the pages: which they are, and under which licences."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace

import pytest

from api.dashboard import vendor
from api.dashboard.vendor import CHARTS, LIBRARIES, VENDOR, read_library
from tests.paths import ROOT

NOTICES = (ROOT / "THIRD_PARTY_NOTICES.md").read_text("utf-8")


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_is_the_file_of_its_release(name: str) -> None:
    library = LIBRARIES[name]
    data = (VENDOR / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == library.sha256
    assert gzip.decompress(read_library(name).gzipped) == data
    # Its address never stands for another release: browsers keep it for a year.
    assert name == f"{library.package}-{library.version}/{library.source.split('/')[-1]}"


def test_the_types_that_scripts_are_checked_with_are_those_of_the_release() -> None:
    library = LIBRARIES[CHARTS]
    development = json.loads((ROOT / "package.json").read_text())["devDependencies"]
    assert development[library.package] == library.version


def test_echarts_says_its_own_version() -> None:
    version = LIBRARIES[CHARTS].version
    assert f'="{version}",' in (VENDOR / CHARTS).read_text("utf-8")


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_comes_with_its_licences_and_is_named_in_the_notices(name: str) -> None:
    library = LIBRARIES[name]
    for notice in library.notices:
        file = (VENDOR / name).with_name(notice)
        assert file.read_text("utf-8").strip()
        assert str(file.relative_to(ROOT)) in NOTICES
    assert {"LICENSE", "NOTICE"} <= set(library.notices)
    for fact in (f"`{library.package}`", library.version, library.licence, library.sha256):
        assert fact in NOTICES


def test_every_file_that_is_vendored_is_accounted_for() -> None:
    found = {str(f.relative_to(VENDOR)) for f in VENDOR.rglob("*") if f.is_file()}
    expected = set(LIBRARIES)
    for name, library in LIBRARIES.items():
        folder = name.rpartition("/")[0]
        expected |= {f"{folder}/{notice}" for notice in library.notices}
    # Swagger UI is called once, by a type of the caller's own.
    expected.add(f"{CHARTS.removesuffix('.js')}.d.ts")
    assert found == expected


def test_bytes_of_another_release_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(LIBRARIES[CHARTS], sha256="0" * 64)
    monkeypatch.setitem(vendor.LIBRARIES, CHARTS, other)
    read_library.cache_clear()
    with pytest.raises(ValueError, match=r"is not of echarts 6\.1\.0"):
        read_library(CHARTS)
    read_library.cache_clear()
