"""The plot of two policies: what it shows, and from when."""

from datetime import UTC, datetime, timedelta

from api.timeline import timeline

UNTIL = datetime(2026, 3, 8, 12, tzinfo=UTC)
SINCE = UNTIL - timedelta(days=7)


def outcome(born: datetime) -> dict[str, object]:
    turns = [{"at": born, "stage": "ok"}, {"at": born + (UNTIL - born) / 2, "stage": "critical"}]
    return {"turns": turns, "episodes": [], "opened": 0, "down_s": 0.0}


def test_what_is_young_is_drawn_from_its_begin() -> None:
    for born, shown, edge in (
        (UNTIL - timedelta(hours=1), "08 Mar 11:00", 'class="is-critical" x="523.0"'),
        (SINCE, "01 Mar 12:00", 'class="is-critical" x="523.0"'),
    ):
        found = timeline(
            {"kind": "beat", "slug": "b", "old": outcome(born), "new": outcome(born)}, SINCE, UNTIL
        )
        assert shown in found
        assert edge in found
