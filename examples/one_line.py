"""Lower a model for Vulkan with planned layouts: one line of the script changes, the import.

    python examples/one_line.py model.pte

Needs the extra ``export``.
"""

import sys

import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

from planner import to_edge_transform_and_lower  # was: from executorch.exir import ...

model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.AdaptiveAvgPool2d(1),
    torch.nn.Flatten(),
    torch.nn.Linear(8, 4),
)
exported = torch.export.export(model.eval(), (torch.randn(1, 3, 32, 32),))

edge = to_edge_transform_and_lower(exported, partitioner=[VulkanPartitioner()])
edge.to_executorch().save(sys.argv[1])
