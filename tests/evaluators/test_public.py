"""What the public sees of a component, as tables and pictures."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.public import PRECEDENCE, component_status, overall_status
from rules.component import ComponentStatus


@pytest.mark.parametrize(
    ("manual", "impacts", "status"),
    [
        pytest.param(None, [], "operational", id="nothing feeds it"),
        pytest.param(None, ["degraded_performance", "major_outage"], "major_outage", id="the worst wins"),
        pytest.param(None, ["operational", "partial_outage"], "partial_outage", id="an open incident counts"),
        pytest.param(
            None,
            ["under_maintenance", "degraded_performance"],
            "degraded_performance",
            id="degraded above maintenance",
        ),
        pytest.param(None, ["under_maintenance"], "under_maintenance", id="maintenance above operational"),
        pytest.param(
            "operational", ["major_outage"], "operational", id="a manual status wins, even a better one"
        ),
        pytest.param("under_maintenance", [], "under_maintenance", id="a manual status stands alone"),
    ],
)
def test_a_component_shows(manual: ComponentStatus | None, impacts: Sequence[str], status: str) -> None:
    assert component_status(manual, impacts) == status


@given(st.lists(st.sampled_from(sorted(PRECEDENCE)), min_size=1))
def test_a_page_is_as_bad_as_its_worst_component(statuses: list[str]) -> None:
    assert PRECEDENCE[overall_status(statuses)] == max(PRECEDENCE[status] for status in statuses)


def test_a_page_without_components_is_operational() -> None:
    assert overall_status([]) == "operational"
