"""The tables that stand for a shared-copies factor over free source and users."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

import numpy as np

from solver.problem import FORBIDDEN, Costs

Domain = tuple[int, ...]

_LARGE: Final = 2**10
"""Entries of a table of which there may be any number."""

_ROOM: Final = 2**19
"""Entries of all larger tables that differ, together: some 50 MB with what is made of them."""


class CopyTables:
    """Builds cost tables of copies; tensors with equal prices and domains get the same array."""

    def __init__(self, levels: int, labels: int) -> None:
        self._levels = levels
        self._labels = labels
        self._identity = np.eye(labels, dtype=np.int64)
        self._prices: dict[int, tuple[Costs, Costs | None]] = {}
        self._uses: dict[tuple[frozenset[int], tuple[Domain, ...]], Costs] = {}
        self._dense: dict[tuple[int, Domain, frozenset[int], tuple[Domain, ...]], Costs] = {}
        self._made: dict[tuple[int, Domain, Domain], Costs] = {}
        self._needs: dict[tuple[Domain, Domain], Costs] = {}
        self._room = _ROOM
        self._shares: dict[tuple[int, frozenset[int], tuple[Domain, ...]], Costs] = {}

    def has_room(
        self, prices: Costs, source: Domain, fixed: frozenset[int], users: tuple[Domain, ...]
    ) -> bool:
        """Whether a dense table may be made, which takes its room then: where many differ, no more
        than some are large."""
        size = len(source) * math.prod(map(len, users))
        if size <= _LARGE or (id(prices), source, fixed, users) in self._dense:
            return True
        if size > self._room:
            return False
        self._room -= size
        return True

    def dense(
        self, prices: Costs, source: Domain, fixed: frozenset[int], users: tuple[Domain, ...]
    ) -> Costs:
        """Costs of shape (levels, source, users...); targets in ``fixed`` are always needed."""
        key = id(prices), source, fixed, users
        if key not in self._dense:
            finite, forbidden = self._clean(prices)
            if len(users) == 1 and not fixed and forbidden is None:
                # By far the most frequent case.
                costs = finite.take(source, axis=1).take(users[0], axis=2)
                self._dense[key] = costs
                return costs
            shape = (self._levels, len(source), *map(len, users))
            uses = self._targets_used(fixed, users)
            rows = list(source)
            costs = (finite[:, rows] @ uses).reshape(shape)
            if forbidden is not None:
                costs[0, (forbidden[rows] @ uses > 0).reshape(shape[1:])] = FORBIDDEN
            self._dense[key] = costs
        return self._dense[key]

    def made(self, prices: Costs, source: Domain, targets: Domain) -> Costs:
        """Costs of shape (levels, source, sets); the last axis is which of the targets are made.

        Bit i of a set stands for target i. A target that is made without need costs zero or more,
        never less. So the least cost over these nodes is the cost of the copies that are needed.
        """
        key = id(prices), source, targets
        if key not in self._made:
            finite, forbidden = self._clean(prices)
            members = _members(targets)
            costs = finite.take(source, axis=1).take(targets, axis=2) @ members
            if forbidden is not None:
                barred = forbidden.take(source, axis=0).take(targets, axis=1) @ members
                costs[0, barred > 0] = FORBIDDEN
            self._made[key] = costs
        return self._made[key]

    def needs(self, user: Domain, targets: Domain) -> Costs:
        """0 or FORBIDDEN, of shape (levels, user, sets): a user of a target needs it made."""
        key = user, targets
        if key not in self._needs:
            members = _members(targets)
            costs = np.zeros((self._levels, len(user), members.shape[1]), np.int64)
            for target, made in zip(targets, members, strict=True):
                if target in user:
                    costs[0, user.index(target), made == 0] = FORBIDDEN
            self._needs[key] = costs
        return self._needs[key]

    def shares(self, prices: Costs, fixed: frozenset[int], users: tuple[Domain, ...]) -> Costs:
        """What each user of a copy pays if all that could need it paid as much; rounded down.

        Of the shape of the prices. Targets in ``fixed`` are paid already. Shares of those that do
        need a copy are never more than its price, by levels: a part of a positive vector is less.
        """
        key = id(prices), fixed, users
        if key not in self._shares:
            finite, forbidden = self._clean(prices)
            counts = Counter(target for domain in users for target in domain)
            found = finite // np.array([max(counts[t], 1) for t in range(self._labels)], np.int64)
            if forbidden is not None:
                found[0, forbidden > 0] = FORBIDDEN
            found[:, :, list(fixed)] = 0
            self._shares[key] = found
        return self._shares[key]

    def _clean(self, prices: Costs) -> tuple[Costs, Costs | None]:
        """The finite prices, and a 0/1 mask of the forbidden ones (None if there are none)."""
        if id(prices) not in self._prices:
            finite = prices.copy()
            diagonal = np.arange(self._labels)
            finite[:, diagonal, diagonal] = 0
            mask = finite[0] >= FORBIDDEN
            finite[:, mask] = 0
            self._prices[id(prices)] = finite, mask.astype(np.int64) if mask.any() else None
        return self._prices[id(prices)]

    def _targets_used(self, fixed: frozenset[int], users: tuple[Domain, ...]) -> Costs:
        """Whether a target is used, as 0/1 of shape (labels, combinations of the users' labels)."""
        key = fixed, users
        if key not in self._uses:
            uses = np.zeros((self._labels, *[1] * len(users)), np.int64)
            uses[list(fixed)] = 1
            for axis, domain in enumerate(users, 1):
                shape = [self._labels] + [1] * len(users)
                shape[axis] = len(domain)
                uses = uses | self._identity[:, list(domain)].reshape(shape)
            self._uses[key] = uses.reshape(self._labels, -1)
        return self._uses[key]


def _members(targets: Domain) -> Costs:
    """Whether each target is in each set of them, as 0/1 of shape (targets, sets)."""
    sets = np.arange(2 ** len(targets))
    return (sets >> np.arange(len(targets))[:, None]) & 1
