"""The wire formats: the Vulkan delegate's graph and blob, and the planned program.

``schema.vkgraph`` and ``schema.plan`` define the classes, and a ``decode`` and ``encode`` each.
"""

from schema.delegate import DelegateBlob, join_delegate, split_delegate
from schema.error import SchemaError
from schema.plan import (
    BaselineTensor,
    CostOrigin,
    DelegatePlan,
    Figures,
    Method,
    OperatorCost,
    PlannedProgram,
    Repack,
    Status,
    TensorPlan,
    Transition,
    TransitionUser,
)
from schema.vkgraph import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor

__all__ = [
    "BaselineTensor",
    "CostOrigin",
    "DelegateBlob",
    "DelegatePlan",
    "Figures",
    "Method",
    "OperatorCost",
    "PlannedProgram",
    "Repack",
    "SchemaError",
    "Status",
    "TensorPlan",
    "Transition",
    "TransitionUser",
    "VkDataType",
    "VkGraph",
    "VkMemoryLayout",
    "VkStorageType",
    "VkTensor",
    "join_delegate",
    "split_delegate",
]
