"""Device profiles: built in, of one's own, and wrong ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from planner.costs.profile import rate
from planner.costs.profile_file import builtin_names, load_profile, parse_profile
from planner.errors import OptionError
from planner.ir.representation import REPRS


def document(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(load_profile("default").to_json())
    return fields | changes


@pytest.mark.parametrize("name", builtin_names())
def test_a_profile_survives_its_own_json(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    again = parse_profile(profile.to_json(), "x")
    assert again == profile and again.digest == profile.digest


def test_the_digest_knows_every_number() -> None:
    base = document()
    base["transition"]["launch"] += 1
    assert parse_profile(json.dumps(base), "x").digest != load_profile("default").digest


def test_the_most_particular_rate_counts() -> None:
    rates = {"default": 1.0, "buffer": 2.0, "buffer:CHANNELS_PACKED": 3.0, "int8": 4.0}
    found = {str(r): rate(rates, r) for r in REPRS}
    assert found["texture:WIDTH_PACKED"] == 1.0
    assert found["buffer:WIDTH_PACKED"] == 2.0
    assert found["buffer:CHANNELS_PACKED"] == 3.0
    assert found["buffer:4C1W"] == 4.0


RATES = {"default": 1}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "invalid JSON"),
        ("[" * 100_000, "invalid JSON"),
        ("[]", "the document is not an object"),
        ("{}", "format is missing"),
        (document(version=3), "version should be 1 or 2"),
        (document(version=True), "version should be 1 or 2"),
        (document(name=""), "name should have 1 to 100 characters"),
        (document(name=7), "name is not a string"),
        (document(unit="s"), "unit should be 'bytes' or 'ns'"),
        (document(origin="guess"), "origin should be"),
        (document(colour="red"), "colour is not a field of a profile"),
        (document(transition=[]), "transition is not an object"),
        (document(transition={"launch": -1}), "transition.launch should be from 0 to 1e+09"),
        (document(transition={"launch": "x"}), "transition.launch is not a number"),
        (document(transition={"launch": float("nan")}), "transition.launch should be from"),
        (document(transition={"launch": 1, "read": {}}), "transition.read.default is missing"),
        (
            document(transition={"launch": 1, "read": RATES | {"buffer:5W": 1}}),
            "transition.read.buffer:5W is not a representation: use buffer, buffer:4C,",
        ),
        (
            document(transition={"launch": 1, "read": RATES, "write": RATES, "copy": 1}),
            "transition.copy is not a field",
        ),
        (document(access={"read": RATES}), "access.write is missing"),
    ],
)
def test_what_is_wrong_is_named(text: Any, wrong: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_profile(text if isinstance(text, str) else json.dumps(text), "my.json")
    assert str(caught.value).startswith("my.json is not a valid device profile: ")
    assert wrong in str(caught.value)
