"""The table of variants that are worth measuring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from api.terminal.figures import cost
from planner.tuning.folder import MANIFEST, variant_name
from planner.tuning.variants import Variant


def explored_table(folder: Path, variants: Sequence[Variant], *, is_settled: bool) -> Table:
    """What each variant is thought to take, and how much it tries."""
    table = Table(
        title=escape(f"variants in {folder}"),
        caption=escape(
            f"{folder / MANIFEST} says what each tries. Run them with ExecuTorch's event tracer, "
            "put each ETDump next to its program as variant-N.etdump, and hand the folder to "
            "'profile import'."
            + (
                ""
                if any(variant.untried for variant in variants)
                else " Nothing that might pay is left to try: this is the best plan again."
            )
            + (
                " The best plan is settled: within two standard errors of what was not measured "
                "no other is faster."
                if is_settled
                else ""
            )
        ),
    )
    table.add_column("variant")
    for heading in ("transitions", "predicted", "may save up to", "untried calls"):
        table.add_column(heading, justify="right")
    for number, variant in enumerate(variants, 1):
        table.add_row(
            variant_name(number, variant.program),
            str(variant.transitions),
            cost(variant.predicted, "ns"),
            "–" if variant.saving is None else cost(max(0.0, variant.saving), "ns"),
            str(len(variant.untried)),
        )
    return table
