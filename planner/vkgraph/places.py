"""The places of a plan's parts in the written graph."""

from __future__ import annotations

from collections.abc import Sequence

from schema.frozen import frozen


@frozen
class WrittenPlaces:
    """The places of a plan's parts in the written graph.

    ``copies[i]`` is the value that transition ``i`` makes and ``clones[i]`` the chain position of
    the operator that makes it; ``operators[i]`` is the chain position of the graph's operator
    ``i``; ``tensors[t]`` is the value of tensor ``t``.
    """

    tensors: Sequence[int]
    operators: Sequence[int]
    copies: Sequence[int]
    clones: Sequence[int]
