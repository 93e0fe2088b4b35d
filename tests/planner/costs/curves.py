"""A profile with curves, as a measurement of a device would give."""

from __future__ import annotations

import json
import random
from typing import Any

from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import load_profile, parse_profile
from planner.ir.representation import REPRS, TensorRepr

CONV2D = "buffer:CONV2D"


def document(curves: Any = None, **changes: Any) -> dict[str, Any]:
    """A profile of version 2 as JSON, with curves of its own or the default profile's rates."""
    fields: dict[str, Any] = json.loads(load_profile("default").to_json())
    fields |= {"version": 2, "name": "curved", "origin": "measured"}
    if curves is not None:
        fields["transition"]["curves"] = curves
    return {k: v for k, v in (fields | changes).items() if v is not None}


def pair(source: TensorRepr | str, target: TensorRepr | str) -> str:
    """The key of a curve."""
    return f"{source}>{target}"


def curved(seed: int = 0) -> DeviceProfile:
    """Curves for most pairs, with noise, so that more bytes may cost less."""
    chance = random.Random(seed)
    curves = {}
    for source in REPRS:
        for target in REPRS:
            if source != target and CONV2D not in map(str, (source, target)):
                sizes = sorted(chance.sample(range(16, 20_000), chance.randint(2, 6)))
                curves[pair(source, target)] = [
                    [size, round(1000 + 0.05 * size + chance.uniform(-400, 400), 3)]
                    for size in sizes
                ]
    for key in chance.sample(sorted(curves), len(curves) // 4):
        del curves[key]
    return parse_profile(json.dumps(document(curves)), "curved")
