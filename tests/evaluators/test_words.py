"""The default words: what they say, and that nothing in them changes by itself."""

import itertools
import re
from collections.abc import Sequence

import pytest

from evaluators.model import Severity, Stage
from evaluators.words import headline, public_text, public_title
from rules.incident import Step

STEPS: tuple[Step, ...] = ("open", "update", "resolve")
SEVERITIES: tuple[Severity, ...] = ("warning", "critical")


@pytest.mark.parametrize(
    ("components", "title"),
    [
        pytest.param([], "Outage: checkout probe", id="the beat's name where it feeds no component"),
        pytest.param(["Checkout"], "Outage: Checkout", id="the component's name where it feeds one"),
        pytest.param(["Cart", "Checkout"], "Outage: Cart and Checkout", id="two joined by and"),
        pytest.param(["A", "B", "C"], "Outage: A, B and C", id="three with a comma"),
    ],
)
def test_a_title_names_what_customers_know(components: Sequence[str], title: str) -> None:
    assert public_title("critical", "checkout probe", components) == title


def test_a_warning_is_called_degraded() -> None:
    assert public_title("warning", "b", ["Checkout"]) == "Degraded performance: Checkout"


def test_a_title_is_cut() -> None:
    assert len(public_title("critical", "b", ["x" * 500])) == 200


def test_a_name_with_braces_is_only_a_name() -> None:
    assert "{0.x}" in public_text("open", "critical", "b", ["{0.x}"])


@pytest.mark.parametrize(
    ("step", "severity", "said"),
    [
        pytest.param("open", "critical", "Shop is currently unavailable", id="an outage"),
        pytest.param("open", "warning", "We are seeing degraded performance of Shop", id="degraded"),
        pytest.param("update", "critical", "has become worse: Shop", id="a rise"),
        pytest.param("update", "warning", "Shop is working again with degraded performance", id="a fall"),
        pytest.param("resolve", "critical", "Shop is working normally again", id="the end"),
    ],
)
def test_each_step_says_what_changed(step: Step, severity: Severity, said: str) -> None:
    assert said in public_text(step, severity, "b", ["Shop"])


def test_an_update_says_that_more_is_affected_or_that_it_is_back_and_names_no_member() -> None:
    more = public_text("update", "critical", "b", ["Shop"], "member")
    assert more.startswith("More of Shop is affected: it is currently unavailable")
    back = public_text("update", "warning", "b", ["Shop"], "reopened")
    assert back.startswith("The problem has come back: we are seeing degraded performance of Shop")


def test_every_text_has_no_number_in_it() -> None:
    for step, severity in itertools.product(STEPS, SEVERITIES):
        assert not re.search(
            r"\d", public_text(step, severity, "b", ["Shop"]) + public_title(severity, "b", ["Shop"])
        )


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        pytest.param(Stage.OK, "b has recovered", id="ok"),
        pytest.param(Stage.WARNING, "b is degraded", id="warning"),
        pytest.param(Stage.CRITICAL, "b is down", id="critical"),
        pytest.param(Stage.UNKNOWN, "b sends no data", id="unknown"),
    ],
)
def test_an_operator_reads_a_headline(stage: Stage, said: str) -> None:
    assert headline(stage, "b") == said
