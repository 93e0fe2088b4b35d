"""ExecuTorch's own decoder of delegates."""

from __future__ import annotations

import json
import re
from typing import Any
from unittest.mock import patch

from executorch.backends.vulkan.serialization import vulkan_graph_serialize
from executorch.backends.vulkan.serialization.vulkan_graph_serialize import (
    extract_vk_flatbuffer,
    flatbuffer_to_vk_graph,
)


def decode_as_executorch(blob: bytes) -> Any:
    """A delegate's graph as ExecuTorch's own reader has it; raises whatever that raises.

    Its JSON reader is told what flatc calls infinity: without that it cannot read its own graphs
    either, once they hold an attention mask.
    """

    def load(file: Any) -> Any:
        text = file.read().decode()
        return json.loads(re.sub(r"(?<=[:\s\[-])(inf|nan)(?=[,\s\]}])", _as_json, text))

    with patch.object(vulkan_graph_serialize.json, "load", load):
        return flatbuffer_to_vk_graph(extract_vk_flatbuffer(bytes(blob)))


def _as_json(match: re.Match[str]) -> str:
    return {"inf": "Infinity", "nan": "NaN"}[match[0]]
