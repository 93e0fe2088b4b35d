"""A problem that has nothing to do with Vulkan: NCHW or NHWC for each activation of a network.

Three layers read one image. Each runs faster in one of the two formats (costs in microseconds), and
a transpose costs 30; one transposed copy serves every layer that wants it.

    python examples/image_formats.py
"""

import numpy as np

from solver import CostTable, Problem, SharedCopies, Variable, solve

FORMATS = ("NCHW", "NHWC")
LAYERS = {"conv1": (50, 90), "conv2": (70, 40), "pool": (40, 10)}  # in NCHW, in NHWC

variables = (Variable((0,), "image"), *(Variable((0, 1), name) for name in LAYERS))
transpose = np.array([[[0, 30], [30, 0]]], dtype=np.int64)  # (levels, from, to)
costs = (
    CostTable((v,), np.array([times], dtype=np.int64)) for v, times in enumerate(LAYERS.values(), 1)
)
problem = Problem(2, 1, variables, (SharedCopies(0, (1, 2, 3), transpose), *costs))

solution = solve(problem)
for variable, label in zip(variables, solution.assignment, strict=True):
    print(f"{variable.name}: {FORMATS[label]}")
print(f"{solution.cost[0]} us, {solution.status.value}")
