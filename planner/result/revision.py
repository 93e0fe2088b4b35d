"""Which plans this planner makes.

What is stored under a plan's id must be what planning again would give. So the id has a revision
of planning in it, and workers do the tasks of their own revision alone.
"""

from __future__ import annotations

from typing import Final

import planner

PLANNING_REVISION: Final = 9
"""Raise it with every change after which some program gets another plan.

A test compares digests of golden plans with those that are noted for the revision.
"""

PLANNER: Final = f"{planner.__version__}+plans.{PLANNING_REVISION}"
"""The release with its revision: only where these are equal are plans the same."""
