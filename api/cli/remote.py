"""Options of planning as a server takes them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from planner.errors import OptionError

if TYPE_CHECKING:
    from api.cli.options import Asked
    from api.client.client import Client
    from api.client.documents import PlanQuery

_SHA256: Final = re.compile("[0-9a-f]{64}")
_STAY: Final = {
    "costs": (
        "--costs",
        "name the server's device (--device NAME), or hand in what is known of one as a file "
        "(layout-planner profile export, then --device FILE)",
    ),
    "avoid": (
        "--avoid",
        "name the GPU (--gpu NAME), or a device whose avoid list has the rows (--device NAME|FILE)",
    ),
    "imports": ("--import", "lower the program here, and hand in the .pte"),
    "trust": ("--trust-input", "lower the program here, and hand in the .pte"),
}
"""What cannot be sent: its option, and what to do."""


def query_of(asked: Asked, client: Client) -> PlanQuery:
    """The options as a query; files that they name are sent to the server.

    Raises ``OptionError`` for one that cannot be sent, and as ``Client``.
    """
    for name, (option, remedy) in _STAY.items():
        if getattr(asked, name):
            raise OptionError(f"{option} cannot be sent to a server: {remedy}, or plan here")
    query: PlanQuery = {
        "profile": _profile(asked.profile, client),
        "without_layout": asked.without_layouts,
        "compile_option": asked.all_compile_options,
        "pin": asked.pin,
        "forbid": asked.forbid,
    }
    if asked.max_transitions is not None:
        query["max_transitions"] = asked.max_transitions
    if asked.max_transition_bytes is not None:
        query["max_transition_bytes"] = asked.max_transition_bytes
    if asked.max_peak_memory is not None:
        query["max_peak_memory"] = asked.max_peak_memory
    if asked.input_layout is not None:
        query["input_layout"] = asked.input_layout
    if asked.output_layout is not None:
        query["output_layout"] = asked.output_layout
    if asked.device is not None:
        query["device"] = _device(asked.device, client)
    if asked.objective is not None:
        from planner.options import parse_objective

        query["objective"] = parse_objective(asked.objective)
    if asked.texture_limits is not None:
        query["texture_limits"] = asked.texture_limits
    if asked.buffer_limit is not None:
        query["buffer_limit"] = asked.buffer_limit
    if asked.runtime is not None:
        query["runtime"] = asked.runtime
    if asked.target is not None:
        from planner.kernels.releases import parse_target

        query["target"] = parse_target(asked.target)
    if asked.gpu is not None:
        query["gpu"] = asked.gpu
    return query


def _profile(name_or_path: str, client: Client) -> str:
    """What the server calls a profile: a built-in one, a file's, or one that it has kept."""
    from planner.costs.profile_file import builtin_names, load_profile

    if name_or_path in builtin_names() or _SHA256.fullmatch(name_or_path):
        return name_or_path
    return client.add_profile(json.loads(load_profile(name_or_path).to_json()))["hash"]


def _device(name_or_path: str, client: Client) -> str:
    """What the server calls a device: by its name there, or by the SHA-256 of a file's."""
    from planner.measured.device import FILE_NAMES, load_device

    if not name_or_path.endswith(FILE_NAMES):
        return name_or_path
    return client.upload(load_device(name_or_path).to_json())
