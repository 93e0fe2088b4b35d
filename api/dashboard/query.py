"""What pages show: their addresses, as models."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.store.plans import PlanFilter, Sort
from gpu.probes import SweepName
from planner.costs.model import Objective

PAGE_SIZES: Final = (25, 50, 100)
STATUSES: Final = ("OPTIMAL", "FEASIBLE")
OBJECTIVES: Final = get_args(Objective)


def _none_if_empty(value: object) -> object:
    # A form sends the field of a filter that nobody set as an empty string.
    return None if value == "" else value


# PostgreSQL takes no text with a NUL in it.
_Text = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=1000)]
_Filter = Annotated[_Text | None, BeforeValidator(_none_if_empty)]


class OverviewQuery(BaseModel):
    """Which plans, in which order, and which page of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Filter = None
    model: _Filter = None
    profile: _Filter = None
    device: _Filter = None
    objective: Annotated[Objective | None, BeforeValidator(_none_if_empty)] = None
    status: Annotated[Literal["OPTIMAL", "FEASIBLE"] | None, BeforeValidator(_none_if_empty)] = None
    sort: Sort = "created"
    order: Literal["asc", "desc"] = "desc"
    page: int = Field(1, ge=1, le=1_000_000)
    size: int = Field(25, ge=1, le=200)

    def filter(self) -> PlanFilter:
        """The plans on all pages."""
        return PlanFilter(
            name=self.name,
            source_name=self.model,
            profile=self.profile,
            device=self.device,
            objective=self.objective,
            status=self.status,
        )

    def link(self, **changes: Any) -> dict[str, str]:
        """The query of a URL for this with changes, without what is the default anyway."""
        changed = self.model_copy(update=changes).model_dump(exclude_defaults=True)
        return {name: str(value) for name, value in changed.items() if value is not None}


class CalibrateQuery(BaseModel):
    """Which device to calibrate, and how; ``link`` lets someone in who has no token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str = Field("", max_length=100)
    link: str | None = Field(None, max_length=4000)
    sweep: SweepName = "small"
    timing: Literal["timestamps", "queue"] = "timestamps"
    batches: int = Field(11, ge=3, le=64)
