"""What went wrong, as the service says it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """What went wrong, in one line that says what to do."""

    detail: str = Field(examples=["unknown objective 'speed': use repack or latency"])


def problems(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """Answers that are a ``Problem``, for OpenAPI; keywords are ``status_404`` and the like."""
    return {
        name.removeprefix("status_"): {"model": Problem, "description": text}
        for name, text in descriptions.items()
    }
