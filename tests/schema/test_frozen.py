"""Frozen classes behave as frozen dataclasses with slots do."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import (
    KW_ONLY,
    FrozenInstanceError,
    asdict,
    dataclass,
    field,
    fields,
    is_dataclass,
    replace,
)
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schema.frozen import frozen

ABSENT = object()
NAMES = ("a", "b", "c", "d")


def made_by(decorate: Callable[[type[Any]], type[Any]], kinds: tuple[str, ...]) -> type[Any]:
    """A class with a field of each kind, in this order."""
    namespace: dict[str, Any] = {"__annotations__": {}, "__module__": __name__, "__doc__": "A."}
    for name, kind in zip(NAMES, kinds, strict=False):
        namespace["__annotations__"][name] = "int"
        if kind == "default":
            namespace[name] = 7
        elif kind == "made":
            namespace[name] = field(default_factory=lambda: 8)
        elif kind == "hidden":
            namespace[name] = field(default=9, repr=False, compare=False)
        elif kind == "within":
            namespace[name] = field(default=10, init=False)
        elif kind == "keyword":
            namespace[name] = field(default=11, kw_only=True)
    return decorate(type("Made", (), namespace))


def outcome(work: Callable[[], Any]) -> Any:
    """What comes out of work, errors included."""
    try:
        return work()
    except (TypeError, ValueError, AttributeError) as error:
        return type(error)


KINDS = st.builds(
    lambda plain, others: ("plain",) * plain + tuple(others),
    st.integers(0, 2),
    st.lists(st.sampled_from(["default", "made", "hidden", "within", "keyword"]), max_size=2),
)
ARGUMENTS = st.tuples(
    st.lists(st.integers(0, 2), max_size=4), st.dictionaries(st.sampled_from(NAMES), st.integers())
)


def behaviour(cls: Any, one: Any, other: Any, change: dict[str, int]) -> list[Any]:
    """All that can be told of a class, and of an object of it."""
    a, b = outcome(lambda: cls(*one[0], **one[1])), outcome(lambda: cls(*other[0], **other[1]))
    if isinstance(a, type):
        return [a]
    names = [f.name for f in fields(cls)]
    return [
        *(is_dataclass(cls), names, cls.__match_args__, repr(a), hash(a), asdict(a)),
        *(a == copy(a) == deepcopy(a), a != ABSENT, isinstance(b, type) or a == b),
        outcome(lambda: repr(replace(a, **change))),
        outcome(lambda: a.__dict__),
        [outcome(lambda name=name: setattr(a, name, 1)) for name in names],  # type: ignore[misc]
        [outcome(lambda name=name: delattr(a, name)) for name in names],  # type: ignore[misc]
    ]


@example(("within",), ([], {}), ([], {}), {"a": 0})
@given(KINDS, ARGUMENTS, ARGUMENTS, st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2)))
def test_it_is_what_the_standard_library_makes(
    kinds: tuple[str, ...], one: Any, other: Any, change: dict[str, int]
) -> None:
    ours = made_by(frozen, kinds)
    theirs = made_by(dataclass(frozen=True, slots=True), kinds)
    assert behaviour(ours, one, other, change) == behaviour(theirs, one, other, change)


@frozen
class Point:
    """A point."""

    x: int
    _: KW_ONLY
    tags: tuple[str, ...] = ()


@frozen
class Named(Point):
    """A point with a name, which its size is checked with."""

    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a name is missing")

    def __repr__(self) -> str:
        return self.name


def test_classes_derive_from_each_other_and_check_what_they_are_given() -> None:
    named = Named(1, name="here", tags=("a",))
    assert repr(named) == "here"
    assert (named.x, named.tags) == (1, ("a",))
    assert named != Point(1, tags=("a",))
    assert Point(1) == Point(x=1, tags=())
    with pytest.raises(ValueError, match="a name is missing"):
        Named(1, name="")
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'x'"):
        named.x = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        Point(1, y=2)  # type: ignore[call-arg]


def test_it_travels_between_processes() -> None:
    named = Named(1, name="here", tags=("a",))
    again = pickle.loads(pickle.dumps(named))
    assert again == named
    assert hash(again) == hash(named)
    assert len({named, again, Point(1), Point(1)}) == 2


def test_an_equal_object_of_another_class_is_not_equal() -> None:
    other = made_by(frozen, ("plain",))
    assert other(1) != made_by(frozen, ("plain",))(1)
    match Point(3):
        case Point(x):
            assert x == 3
