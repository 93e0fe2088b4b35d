"""Profiles by what requests call them: a built-in name, a hash, or the document itself."""

from __future__ import annotations

import json
import re
from typing import Any

from api.store.plans import PlanStore
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import builtin_names, load_profile, parse_profile
from planner.errors import OptionError


def find_profile(store: PlanStore, written: str | dict[str, Any]) -> DeviceProfile:
    """A built-in profile by name, a kept one by its hash, or one from its document.

    Raises ``OptionError``.
    """
    if isinstance(written, dict):
        return parse_profile(json.dumps(written), "the profile")
    # Another name would be taken for the path of a file of this machine.
    if written in builtin_names():
        return load_profile(written)
    found = store.profile(written) if re.fullmatch("[0-9a-f]{64}", written) else None
    if found is None:
        raise OptionError(
            f"unknown profile {written!r}: use one of {', '.join(builtin_names())}, the hash of "
            "one that POST /profiles has kept, or in a job a profile's JSON document"
        )
    return found
