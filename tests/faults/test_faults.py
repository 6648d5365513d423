"""The short form of `make faults`: a few kills under load, the same drivers and the same oracle."""

import pytest

from tests.faults.scenarios import Report, kills


def assert_clean(report: Report) -> None:
    assert report.is_clean, report.to_json()


@pytest.mark.parametrize("seed", [1])
async def test_a_few_kills_lose_and_double_nothing(seed: int) -> None:
    assert_clean(await kills(seed, 3, webhooks_per_s=50.0))
