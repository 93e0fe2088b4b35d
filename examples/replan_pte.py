"""Plan a lowered program again, and print what that saves. No torch, no original model.

python examples/replan_pte.py old.pte new.pte
"""

import sys
from pathlib import Path

from planner import PlannerError, make_options, replan

source, target = map(Path, sys.argv[1:])
try:
    planned = replan(source.read_bytes(), source.name, make_options(profile="bytes"))
except PlannerError as error:
    sys.exit(f"{error}")
target.write_bytes(planned.pte())

total = planned.report.total
print(f"repacks: {total.baseline_transitions} before, {total.transitions} now")
print(f"repacked bytes: {total.baseline_repack_cost} before, {total.repack_cost} now")
print(f"proof: {total.status}")
