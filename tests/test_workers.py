"""Workers keep to what the suite asks of them."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("kept")
def test_a_group_is_kept_on_one_worker(request: pytest.FixtureRequest) -> None:
    """Tests that share what is lowered carry a group, which some releases of pytest drop."""
    if not request.config.getoption("loadgroup", default=False):
        pytest.skip("no workers, or none that keep groups: run 'make test'")
    assert request.node.nodeid.endswith("@kept"), "pytest-xdist drops groups: see pyproject.toml"
