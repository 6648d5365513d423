"""Uptime over HTTP: hand-computed histories in the real store, of beats, groups and components, cut in every way."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from api import shapes
from api.status import reading
from engine.store import facts, objects, results, retention, reviews, rollups, states, uptime
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import PARTITIONS, new_id, partition_of
from engine.store.objects import Stored
from evaluators.facts import Continued, EpisodeOpened, Fact, StepProposed, Suspended
from evaluators.model import Kind, Result, Stage, Timings, Verdict

if TYPE_CHECKING:
    from tests.api.conftest import Server

ACTOR = Actor("t", "api")
HOUR = 3600.0
DAY = 24 * HOUR


class World:
    """What is made for one test: objects on the page `shop`, their past."""

    def __init__(self, server: "Server", now: float) -> None:
        self.server, self.now, self.mark = server, now, new_id().hex[-8:]

    async def make(self, kind: Any, name: str, age_s: float = 10 * DAY, **spec: Any) -> Stored:
        """An object that was created so long ago."""
        common: dict[str, Any] = {"slug": f"{name}-{self.mark}"}
        if kind == "beat":
            common |= {"type": "http", "url": "https://x.example/", "regions": ["eu"]}
        if kind == "component":
            common |= {"name": name}
        async with transaction(self.server.services.pool) as db:
            page = await objects.find(db, "page", "shop")
            made = await objects.create(db, ACTOR, kind, page.id, common | spec)
            await db.execute(
                "UPDATE objects SET created_at = to_timestamp($2) WHERE id = $1", made.id, self.now - age_s
            )
            found = await objects.get(db, made.id)
        assert found is not None
        return found

    async def stages(self, subject: Stored, *points: tuple[float, Stage]) -> None:
        """Transitions so many seconds ago."""
        was = Stage.UNKNOWN
        async with transaction(self.server.services.pool) as db:
            for ago_s, stage in points:
                one = states.Transition(subject.id, self.now - ago_s, was, stage, {})
                await states.record_transitions(db, [one])
                was = stage

    async def facts(self, subject: Stored, *kept: Fact) -> None:
        async with transaction(self.server.services.pool) as db:
            await facts.keep(db, [facts.Logged(subject.id, one) for one in kept])

    async def runs(self, beat: Stored, *ago: tuple[float, Verdict], kind: Kind = Kind.SCHEDULED) -> None:
        """Runs so many seconds ago."""
        made = [
            Result(str(new_id()), str(beat.id), "eu", kind, verdict, at, at + 0.1, 1, 1, Timings(total=0.1))
            for ago_s, verdict in ago
            for at in [self.now - ago_s]
        ]
        async with transaction(self.server.services.pool) as db:
            await results.insert(db, [(str(beat.id), r.at, r) for r in made], self.now)

    async def uptime(self, subject: Stored, **query: object) -> dict[str, Any]:
        """What the API says; it holds itself against the contract."""
        asked = {"since": at(self.now - 4 * HOUR), "until": at(self.now)} | query
        text = "&".join(f"{name}={value}" for name, value in asked.items())
        answer = await self.server.call("GET", f"/api/v1/{subject.kind}s/{subject.slug}/uptime?{text}")
        assert answer.status == 200, answer.body
        msgspec.convert(answer.body, shapes.ShownUptime)
        body: dict[str, Any] = answer.body
        return body

    async def parts(self, subject: Stored, **query: object) -> Sequence[Any]:
        """up, down, unknown, maintenance."""
        found = await self.uptime(subject, **query)
        given = found["seconds"] or found["runs"]
        return [pytest.approx(given[name]) for name in ("up", "down", "unknown", "maintenance")]


def at(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat().replace("+00:00", "Z")


@pytest.fixture
async def world(server: "Server") -> World:
    return World(server, float(int(server.services.clock.epoch_s())))


async def test_a_beat_by_duration(world: World) -> None:
    beat = await world.make("beat", "b")
    await world.stages(
        beat,
        (5 * HOUR, Stage.OK),
        (3 * HOUR, Stage.CRITICAL),
        (2.5 * HOUR, Stage.WARNING),
        (2 * HOUR, Stage.UNKNOWN),
        (HOUR, Stage.OK),
    )
    found = await world.uptime(beat)
    assert found["seconds"] == {"up": 2.5 * HOUR, "down": 0.5 * HOUR, "unknown": HOUR, "maintenance": 0.0}
    assert found["uptime"] == pytest.approx(2.5 / 3)
    assert (found["by"], found["down"], found["bars"], found["runs"]) == ("duration", ["critical"], [], None)
    assert await world.parts(beat, down="critical,warning") == [2 * HOUR, HOUR, HOUR, 0]
    assert await world.parts(beat, since=at(world.now - 2.75 * HOUR), until=at(world.now - 2.25 * HOUR)) == [
        HOUR / 4,
        HOUR / 4,
        0,
        0,
    ]


async def test_steps_are_whole_hours_and_days_and_add_up(world: World) -> None:
    beat = await world.make("beat", "b", age_s=2.5 * HOUR)
    await world.stages(beat, (2 * HOUR, Stage.OK), (1800, Stage.CRITICAL))
    found = await world.uptime(beat, step="1h")
    starts = [datetime.fromisoformat(bar["start"]) for bar in found["bars"]]
    assert all((start.minute, start.second) == (0, 0) for start in starts[1:])
    for name in ("up", "down", "unknown"):
        assert sum(bar["seconds"][name] for bar in found["bars"]) == pytest.approx(found["seconds"][name])
    assert sum(found["seconds"].values()) == 2.5 * HOUR  # its life
    assert found["bars"][0]["worst"] is None
    assert found["bars"][-1]["worst"] == "critical"


async def test_a_pause_an_absence_and_the_time_before_the_first_answer_are_not_known(world: World) -> None:
    beat = await world.make("beat", "b")
    await world.stages(beat, (3.5 * HOUR, Stage.OK))
    now = world.now
    await world.facts(
        beat,
        Suspended(now - 3 * HOUR),
        Continued(now - 2.5 * HOUR),
        Suspended(now - 900),
    )
    async with world.server.services.pool.acquire() as db:
        mine = partition_of(beat.id)
        await uptime.keep_absences(db, mine, [(now - 2 * HOUR, now - HOUR), (now - 90 * DAY, now - 60 * DAY)])
        await uptime.keep_absences(db, (mine + 1) % PARTITIONS, [(now - HOUR, now - 60)])
    assert await world.parts(beat) == [1.75 * HOUR, 0, 2.25 * HOUR, 0]
    assert (await world.uptime(beat))["uptime"] == 1.0
    only = await world.uptime(beat, since=at(now - 2.75 * HOUR), until=at(now - 2.6 * HOUR))
    assert only["uptime"] is None
    await world.server.services.pool.execute("DELETE FROM absences")  # they are of other beats, too


async def test_a_removed_beat_ends_and_still_counts_for_its_component(world: World) -> None:
    component = await world.make("component", "c", uptime="duration")
    gone = await world.make("beat", "gone", components={component.slug: {}})
    stays = await world.make("beat", "stays", components={component.slug: {}})
    await world.stages(gone, (5 * HOUR, Stage.OK), (3 * HOUR, Stage.CRITICAL))
    await world.stages(stays, (5 * HOUR, Stage.OK), (1800, Stage.CRITICAL))
    async with transaction(world.server.services.pool) as db:
        await objects.remove(db, ACTOR, gone)
        await db.execute(
            "UPDATE objects SET removed_at = to_timestamp($2) WHERE id = $1", gone.id, world.now - 2 * HOUR
        )
    assert await world.parts(component) == [2.5 * HOUR, 1.5 * HOUR, 0, 0]


async def test_a_component_is_the_worst_of_what_feeds_it_and_of_grouped_beats_their_group(
    world: World,
) -> None:
    component = await world.make("component", "c", age_s=3 * HOUR)
    group = await world.make("group", "g", components={component.slug: {}})
    member = await world.make("beat", "m", group=group.slug, components={component.slug: {}})
    alone = await world.make("beat", "a", components={f"shop/{component.slug}": {}})
    await world.make("beat", "other")
    await world.stages(group, (5 * HOUR, Stage.OK), (HOUR, Stage.UNKNOWN))
    await world.stages(member, (5 * HOUR, Stage.CRITICAL))
    await world.stages(alone, (5 * HOUR, Stage.OK), (2 * HOUR, Stage.CRITICAL), (1.5 * HOUR, Stage.WARNING))
    # From its birth: 1 h up, 0.5 h down by one, 0.5 h up, then nobody knows the group.
    assert await world.parts(component, by="duration") == [1.5 * HOUR, 0.5 * HOUR, HOUR, 0]
    assert await world.parts(group) == [3 * HOUR, 0, HOUR, 0]
    assert (await world.uptime(component))["by"] == "manual"


async def test_what_flaps_is_read_bit_by_bit_and_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = await world.make("component", "c")
    ones = [await world.make("beat", f"b{n}", components={component.slug: {}}) for n in range(2)]
    for n, one in enumerate(ones):
        flaps = [(4 * HOUR - 600 * i - 60 * n, (Stage.CRITICAL, Stage.OK)[i % 2]) for i in range(20)]
        await world.stages(one, *flaps)
    await world.facts(ones[0], Suspended(world.now - 2 * HOUR), Continued(world.now - HOUR))
    asked: dict[str, Any] = {"by": "duration", "step": "1h", "exclude_maintenance": "true"}
    at_once = await world.uptime(component, **asked)
    monkeypatch.setattr(uptime, "SLICE", 1)
    bit_by_bit = await world.uptime(component, **asked)
    assert bit_by_bit["seconds"] == pytest.approx(at_once["seconds"])
    assert [bar["worst"] for bar in bit_by_bit["bars"]] == [bar["worst"] for bar in at_once["bars"]]
    assert at_once["seconds"]["down"] == 6 * 660 + 3 * 600 + 660  # three times the second was alone


async def test_maintenance_is_left_out_where_it_is_asked_for(world: World) -> None:
    beat = await world.make("beat", "b")
    await world.stages(beat, (5 * HOUR, Stage.OK), (3 * HOUR, Stage.CRITICAL), (2 * HOUR, Stage.OK))
    for name, ago, length in (("one", 3 * HOUR, "30m"), ("two", 2.75 * HOUR, "30m")):
        await world.make("maintenance", name, start=at(world.now - ago), duration=length, beats=[beat.slug])
    assert await world.parts(beat) == [3 * HOUR, HOUR, 0, 0]
    assert await world.parts(beat, exclude_maintenance="true") == [3 * HOUR, HOUR / 4, 0, 0.75 * HOUR]
    component = await world.make("component", "c")
    fed = await world.make("beat", "f", components={component.slug: {}})
    await world.stages(fed, (5 * HOUR, Stage.CRITICAL))
    await world.make(
        "maintenance", "three", start=at(world.now - 2 * HOUR), duration="1h", components=[component.slug]
    )
    excluded = await world.uptime(component, by="duration", exclude_maintenance="true")
    assert excluded["seconds"] == {"up": 0, "down": 3 * HOUR, "unknown": 0, "maintenance": HOUR}


async def test_by_requests_errors_and_runs_that_are_not_scheduled_do_not_count(world: World) -> None:
    beat = await world.make("beat", "b")
    ok, warning, critical, error = Verdict.OK, Verdict.WARNING, Verdict.CRITICAL, Verdict.ERROR
    await world.runs(beat, (60, ok), (120, ok), (180, warning), (240, critical), (300, error), (5 * HOUR, ok))
    await world.runs(beat, (61, critical), (62, critical), kind=Kind.MANUAL)
    async with world.server.services.pool.acquire() as db:
        await retention.make_days(db, datetime.fromtimestamp(world.now, UTC).date())
    found = await world.uptime(beat, by="requests")
    assert found["runs"] == {"up": 3, "down": 1, "unknown": 1, "maintenance": 0}
    assert (found["uptime"], found["seconds"], found["resolution_s"]) == (0.75, None, 0)
    assert (await world.uptime(beat, by="requests", since=at(world.now - 200)))["runs"]["up"] == 3
    await rollups.roll(world.server.services.pool)
    assert await world.uptime(beat, by="requests") == found
    await world.make("maintenance", "w", start=at(world.now - 250), duration="100s", beats=[beat.slug])
    left_out = await world.uptime(beat, by="requests", exclude_maintenance="true")
    assert left_out["runs"] == {"up": 2, "down": 0, "unknown": 1, "maintenance": 2}


async def test_by_requests_a_group_is_all_runs_of_its_members(world: World) -> None:
    component, other = await world.make("component", "c"), await world.make("component", "o")
    group = await world.make("group", "g", components={component.slug: {}, other.slug: {}})
    for name in ("one", "two"):
        member = await world.make("beat", name, group=group.slug)
        await world.runs(member, (60, Verdict.OK), (120, Verdict.CRITICAL if name == "two" else Verdict.OK))
    for subject in (group, component):
        assert await world.parts(subject, by="requests") == [3, 1, 0, 0]
    begin = at(world.now - 90)
    await world.make("maintenance", "w", start=begin, duration="5m", components=[other.slug])
    for subject in (group, component, other):  # it covers the group, and so what its members ran
        assert await world.parts(subject, by="requests", exclude_maintenance="true") == [1, 1, 0, 2]


async def test_a_summary_says_the_same_of_runs(world: World) -> None:
    beat = await world.make("beat", "b")
    await world.runs(
        beat, (60, Verdict.OK), (DAY, Verdict.WARNING), (2 * DAY, Verdict.CRITICAL), (70, Verdict.ERROR)
    )
    await rollups.roll(world.server.services.pool)
    path = f"/api/v1/beats/{beat.slug}"
    summary = (await world.server.call("GET", f"{path}/summary")).body
    told = await world.uptime(beat, by="requests", since=summary["since"].replace("+00:00", "Z"))
    assert told["uptime"] == pytest.approx(summary["all"]["runs_up_ratio"])
    assert sum(told["runs"].values()) == summary["all"]["runs"] == 4


async def _incident(
    world: World, owner: Stored, ago_s: float, severity: Any, until_ago_s: float | None
) -> None:
    """An episode whose drafts were approved at once."""
    begin = world.now - ago_s
    async with transaction(world.server.services.pool) as db:
        await reviews.open_episodes(db, [(owner, EpisodeOpened(begin, 1, severity))])
        await reviews.propose(db, [reviews.Proposal(owner.id, 1, StepProposed(begin, "open", severity))])
        (action,) = await reviews.actions(db, owner=owner.id)
        await reviews.approve(db, ACTOR, action["id"], 1, begin)
        if until_ago_s is not None:
            end = world.now - until_ago_s
            await reviews.propose(db, [reviews.Proposal(owner.id, 1, StepProposed(end, "resolve", severity))])


async def test_manually_only_approved_incidents_count(world: World) -> None:
    component = await world.make("component", "c")
    beat = await world.make("beat", "b", components={component.slug: {}})
    slow = await world.make("beat", "s", components={component.slug: {}})
    await world.stages(beat, (5 * HOUR, Stage.CRITICAL))
    assert await world.parts(component) == [4 * HOUR, 0, 0, 0]
    await _incident(world, beat, 2 * HOUR, "critical", HOUR)
    await _incident(world, slow, 1800, "warning", None)
    found = await world.uptime(component, step="1h")
    assert (found["uptime"], found["down"]) == (0.75, ["major_outage", "partial_outage"])
    assert {bar["worst"] for bar in found["bars"]} >= {"major_outage", "degraded_performance"}
    assert await world.parts(beat, by="manual") == [3 * HOUR, HOUR, 0, 0]
    assert await world.parts(slow, by="manual") == [4 * HOUR, 0, 0, 0]
    lonely = await world.make("beat", "l")
    await _incident(world, lonely, HOUR, "critical", None)
    assert await world.parts(lonely, by="manual") == [3 * HOUR, HOUR, 0, 0]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "since=yesterday",
            "/since: 'yesterday' is neither a time since 1970 such as 2026-01-31T18:00Z nor a",
        ),
        ("since=2026-01-01T00:00", "/since: '2026-01-01T00:00' is neither"),  # no offset
        ("since=99999d", "/since: '99999d' is neither a time since 1970"),
        ("since=1h&until=2h", "/since: 1h is not before 2h"),
        ("since=2099-01-01T00:00Z", "/since: 2099-01-01T00:00Z is not before now"),
        ("until=soon", "/until: 'soon' is neither"),
        ("by=votes", "/by: 'votes' is not allowed; write manual, duration or requests"),
        ("down=warning", "/down: down warning lacks critical, which is worse; add it"),
        ("down=bad", "/down/0: 'bad' is not allowed; write critical or warning"),
        (
            "by=requests&down=critical,warning",
            "/down: down is for by: duration; by requests what counts as down",
        ),
        ("step=1m", "/step: 1m makes more than 1000 bars; write a longer one"),
        ("step=0s", "/step: 0s makes more than 1000 bars"),
        ("step=often", "/step: 'often' is not a duration"),
        ("by=requests&step=90m", "/step: 90m is not full hours, by which runs are counted; write 1h or 1d"),
    ],
)
async def test_what_is_asked_in_vain_is_said(server: "Server", query: str, said: str) -> None:
    answer = await server.call("GET", f"/api/v1/beats/home/uptime?page=shop&{query}")
    assert answer.status == 422
    assert answer.body["detail"].startswith(said)


async def test_of_a_young_beat_all_runs_are_counted_to_the_moment(world: World) -> None:
    beat = await world.make("beat", "b", age_s=HOUR)
    await world.runs(beat, (60, Verdict.OK))
    async with world.server.services.pool.acquire() as db:
        await retention.make_days(db, datetime.fromtimestamp(world.now, UTC).date())
    found = await world.uptime(beat, by="requests", since="300d")
    assert (found["runs"]["up"], found["resolution_s"]) == (1, 0)
    old = await world.make("beat", "o", age_s=300 * DAY)
    assert (await world.uptime(old, by="requests", since="200d"))["resolution_s"] == DAY


async def test_what_is_on_a_page_that_one_may_not_read_is_not_there(world: World) -> None:
    for kind in ("beat", "group", "component"):
        made = await world.make(kind, "x")
        path = f"/api/v1/{kind}s/{made.slug}/uptime"
        assert (await world.server.call("GET", path, who="viewer")).status == 200
        assert (await world.server.call("GET", path, who="other")).status == 404


async def test_a_component_says_what_its_public_figure_is(world: World) -> None:
    component = await world.make(
        "component",
        "c",
        uptime={"by": "duration", "down": ["critical", "warning"], "exclude_maintenance": True},
    )
    found = await world.uptime(component)
    assert (found["by"], found["down"], found["exclude_maintenance"]) == (
        "duration",
        ["critical", "warning"],
        True,
    )
    assert found["uptime"] is None  # nothing feeds it
    other = await world.uptime(component, by="requests")
    assert (other["down"], other["exclude_maintenance"]) == (["critical"], False)


async def test_the_public_page_publishes_measurement_only_where_it_is_set(world: World) -> None:
    told = await world.make("component", "told")
    shown = await world.make("component", "shown", uptime="duration")
    counted = await world.make("component", "counted", uptime="requests")
    feeds: dict[str, Any] = {told.slug: {}, shown.slug: {}, counted.slug: {}}
    beat = await world.make("beat", "b", components=feeds)
    await world.stages(beat, (4 * HOUR, Stage.OK), (HOUR, Stage.CRITICAL))
    await world.runs(beat, (60, Verdict.OK), (120, Verdict.OK), (180, Verdict.CRITICAL))
    body = (await world.server.call("GET", "/p/shop/status.json", who=None)).body
    by = {component["slug"]: component for component in body["components"]}
    assert (by[told.slug]["uptime"], by[told.slug]["uptime_by"]) == (1.0, "manual")
    assert by[shown.slug]["uptime"] == pytest.approx(0.75, abs=0.01)
    assert by[shown.slug]["uptime_by"] == "duration"
    assert by[shown.slug]["bars"][-1]["status"] == "major_outage"
    assert by[shown.slug]["status"] == "operational"  # bars are measured, its status never
    assert by[counted.slug]["uptime"] == pytest.approx(2 / 3)
    assert by[counted.slug]["bars"][-1]["status"] == "degraded_performance"
    assert all(len(component["bars"]) == 90 for component in by.values())


async def test_the_public_page_leaves_maintenance_out_of_what_it_was_told_where_it_is_set(
    world: World,
) -> None:
    component = await world.make("component", "c", uptime={"by": "manual", "exclude_maintenance": True})
    begin = at(world.now - 5 * DAY)
    await world.make("maintenance", "m", start=begin, duration="3d", components=[component.slug])
    said = await world.uptime(component, since="90d")
    assert said["seconds"]["maintenance"] == 3 * DAY
    world.server.app.state.status_pages = None  # what was kept a moment ago does not have it
    body = (await world.server.call("GET", "/p/shop/status.json", who=None)).body
    (shown,) = [one for one in body["components"] if one["slug"] == component.slug]
    assert "under_maintenance" in [bar["status"] for bar in shown["bars"]]


async def test_a_page_with_more_to_measure_than_it_has_time_for_shows_what_it_has(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = [await world.make("component", name, uptime="duration") for name in ("one", "two")]
    measured = reading.Measured()
    async with world.server.services.pool.acquire() as db:
        await measured.days(db, pair[:1], world.now - DAY)
        assert (await measured.days(db, pair, world.now)).keys() == {one.id for one in pair}
        monkeypatch.setattr(reading, "MEASURING_S", 0.0)
        later = world.now + reading.MEASURED_S + 1
        assert (await measured.days(db, pair, later)).keys() == {one.id for one in pair}
    assert {made_at for made_at, _, _ in measured.made.values()} == {world.now}


async def test_the_console_shows_the_same_figures(world: World) -> None:
    beat = await world.make("beat", "b", age_s=DAY)
    await world.stages(beat, (DAY, Stage.OK), (6 * HOUR, Stage.CRITICAL), (3 * HOUR, Stage.OK))
    found = await world.server.call("GET", f"/console/beats/{beat.slug}?page=shop")
    assert found.status == 200
    assert "24 h <strong>87.50 %</strong>" in found.body
