"""Each face has words for each remedy."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import pytest

from api.cli.wording import COMMAND_LINE
from api.jobs.wording import HTTP
from planner.errors import IN_PYTHON, NoRepresentationError, OptionError, Remedy


@pytest.mark.parametrize("wording", [COMMAND_LINE, HTTP, IN_PYTHON])
def test_every_remedy_has_words(wording: Mapping[Remedy, str]) -> None:
    assert wording.keys() == set(Remedy)
    assert all(wording.values())


@pytest.mark.parametrize("wording", [HTTP, IN_PYTHON])
def test_only_the_command_line_speaks_of_its_options(wording: Mapping[Remedy, str]) -> None:
    assert not any("--" in text or "layout-planner" in text for text in wording.values())


def test_an_error_says_what_is_wrong_and_then_what_to_do() -> None:
    both = Remedy.RAISE_TEXTURE_LIMITS, Remedy.RAISE_BUFFER_LIMIT
    error = NoRepresentationError("operator 3 has no representation", *both)
    assert error.worded(COMMAND_LINE) == (
        "operator 3 has no representation: raise the texture limits (--texture-limits X,Y,Z) or "
        "raise the buffer limit (--buffer-limit N)"
    )
    assert OptionError("unknown profile 'x': use bytes").worded(HTTP) == (
        "unknown profile 'x': use bytes"
    )


def test_an_error_survives_the_way_between_processes() -> None:
    error = NoRepresentationError("nothing is left", Remedy.EXCLUDE_FEWER_LAYOUTS)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.what, copy.remedies) == (type(error), error.what, error.remedies)
    assert str(copy) == str(error)
