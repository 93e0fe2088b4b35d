"""Permutes between operators that read NCHW and those of a delegate that read NHWC.

Softmax is on the CPU, in NCHW. Operators that work element by element take either layout, but one
for all their operands. A tensor is permuted once for all who read it. Three counts: each of the
delegate's operators wrapped by itself; inverse pairs cancelled; the optimum.

    python examples/delegate_permutes.py
"""

import numpy as np

from solver import Problem, SharedCopies, Variable, solve

NCHW, NHWC, EITHER = (0,), (1,), (0, 1)
OPERATORS = {
    "image": (NCHW, ()),
    "conv1": (NHWC, ("image",)),
    "depthwise": (NHWC, ("conv1",)),
    "relu": (EITHER, ("depthwise",)),
    "conv2": (NHWC, ("relu",)),
    "add": (EITHER, ("conv2", "relu")),
    "sigmoid": (EITHER, ("add",)),
    "gate": (EITHER, ("sigmoid", "add")),
    "pool": (NHWC, ("gate",)),
    "softmax": (NCHW, ("gate",)),
    "scale": (EITHER, ("pool", "softmax")),
    "output": (NCHW, ("scale",)),
}


def permutes(either: tuple[int, ...]) -> int:
    """The fewest permutes if operators that take either layout may have these."""
    domains = [either if domain == EITHER else domain for domain, _ in OPERATORS.values()]
    price = np.array([[[0, 1], [1, 0]]], dtype=np.int64)  # (levels, from, to)
    copies = []
    for v, name in enumerate(OPERATORS):
        readers = tuple(r for r, (_, read) in enumerate(OPERATORS.values()) if name in read)
        copies += [SharedCopies(v, readers, price)] if readers else []
    return solve(Problem(2, 1, tuple(map(Variable, domains)), tuple(copies))).cost[0]


wrapped = sum(len(inputs) + 1 for domain, inputs in OPERATORS.values() if domain == NHWC)
print(f"{wrapped} permutes wrapped, {permutes(NCHW)} cancelled, {permutes(EITHER)} at least")
