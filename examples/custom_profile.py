"""Describe a device of your own, save it as JSON, and plan for it.

python examples/custom_profile.py model.pte mine.json
"""

import sys
from dataclasses import replace
from pathlib import Path

from planner import load_profile, make_options, plan

model, target = map(Path, sys.argv[1:])
base = load_profile("default")
mine = replace(
    base,
    name="my phone",
    description="Slow launches; textures are read at 40 GB/s (0.025 ns a byte).",
    transition=replace(base.transition, launch=25_000, read={"default": 0.05, "texture": 0.025}),
)
target.write_text(mine.to_json() + "\n")

options = make_options(profile=str(target), objective="latency")
total = plan(model.read_bytes(), model.name, options).report.total
print(f"{total.objective_cost:.0f} ns by {mine.name}, {total.status}")
