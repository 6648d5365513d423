"""What is exported is read back as the same objects and settings, whatever they are."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.beat import BEAT
from rules.channel import CHANNEL
from rules.component import Component, Region
from rules.config import Declared, Document, dump, parse
from rules.group import Group
from rules.page import Page
from rules.settings import Settings
from rules.shape import Rule, written
from rules.size import format_size, parse_size_bytes

ENVIRONMENT = {"env:TOKEN": "t0ken", "env:HOOK": "https://hooks.example.com/x"}

names = st.text(min_size=1, max_size=40).filter(lambda text: text.strip())
texts = st.text(max_size=60).filter(lambda text: "${env" not in text)
durations = st.one_of(st.sampled_from(["1s", "1m30s", "1500ms", "2h"]), st.floats(1, 3600))
counts = st.one_of(st.integers(1, 2), st.sampled_from(["majority", "all", "any", "60%"]))
kept = texts.filter(lambda text: "\0" not in text)  # what an assertion takes
json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), kept
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(kept, inner, max_size=3)),
    max_leaves=8,
)
assertions = st.one_of(
    st.fixed_dictionaries(
        {"of": st.just("json"), "path": st.sampled_from(["$.a", "$..b"]), "eq": json_values}
    ),
    st.fixed_dictionaries(
        {"of": st.just("body"), "contains": kept, "severity": st.sampled_from(["warning", "critical"])}
    ),
    st.fixed_dictionaries(
        {"of": st.just("status"), "in": st.lists(st.integers(100, 599), min_size=1, max_size=3)}
    ),
    st.fixed_dictionaries({"of": st.just("timing.total"), "lt": st.sampled_from(["2s", "800ms"])}),
)
quorums = st.fixed_dictionaries(
    {},
    optional={
        "critical": counts,
        "warning": st.fixed_dictionaries({"open": st.just("all"), "close": counts}),
        "max_age": st.one_of(st.just("auto"), durations),
        "min_voters": counts,
        "confirm": st.one_of(st.just("off"), st.none(), st.fixed_dictionaries({"runs": st.integers(1, 5)})),
        "on_insufficient": st.sampled_from(["unknown", "hold"]),
    },
)
beats = st.fixed_dictionaries(
    {
        "type": st.just("http"),
        "url": st.sampled_from(["https://example.com/", "http://[::1]:8080/a?b=c%20d"]),
    },
    optional={
        "name": names,
        "description": texts,
        "interval": st.floats(10, 3600),
        "timeout": st.floats(0.001, 10),
        "retries": st.integers(0, 5),
        "tags": st.lists(st.sampled_from(["a", "team:b", "no", "1.0"]), max_size=3),
        "regions": st.just(["eu", "us"]),
        "quorum": quorums,
        "components": st.sampled_from([["cart"], {"cart": {"warning": "operational"}}]),
        "channels": st.just(["ops"]),
        "headers": st.fixed_dictionaries(
            {
                "X-A": texts.filter(lambda t: not set(t) & set("\r\n\0")),
                "Authorization": st.just("Bearer ${env:TOKEN}"),
            }
        ),
        "body": kept,
        "assertions": st.lists(assertions, max_size=3),
        "enabled": st.booleans(),
    },
)
setting_values = st.fixed_dictionaries(
    {},
    optional={
        "public_url": st.just("https://status.example.com/x"),
        "trusted_proxies": st.just(["10.0.0.0/8", "fd00::/8"]),
        "retention": st.fixed_dictionaries({"days": st.integers(1, 99), "size": st.integers(10**8, 10**13)}),
        "watchdog": st.just({"url": "${env:HOOK}", "every": "30s"}),
        "otlp": st.fixed_dictionaries(
            {"endpoint": st.just("http://127.0.0.1:4318"), "interval": st.floats(1, 60)}
        ),
    },
)


def declared(kind: Any, spec: Rule, page: str | None = None) -> Declared:
    slug = getattr(spec, "slug", "")
    return Declared(kind, slug, page, spec.model_copy(update={"page": page}) if page else spec, 0)


def fixtures(pages: list[str]) -> list[Declared]:
    made = [declared("page", Page(slug=page, name=page)) for page in pages]
    made += [declared("region", Region(slug=slug)) for slug in ("us", "eu", "ap")]
    for page in pages:
        hook = {"slug": "ops", "type": "webhook", "url": "${env:HOOK}", "on": ["open", "unknown"]}
        made.append(declared("component", Component(slug="cart", name="Cart"), page))
        made.append(declared("channel", CHANNEL.validate_python(hook), page))
    return made


def by_name(objects: tuple[Declared, ...] | list[Declared]) -> dict[tuple[str, str | None, str], Rule]:
    return {(one.kind, one.page, one.slug): one.spec for one in objects}


def reread(objects: list[Declared], given_settings: Settings) -> Document:
    return parse(dump(objects, given_settings), "upbeat.yaml", ENVIRONMENT)


@settings(max_examples=150, deadline=None)
@given(st.lists(beats, max_size=3), setting_values, st.sampled_from([["shop"], ["shop", "bank"]]))
def test_what_is_exported_reads_back_equal(
    written: list[dict[str, Any]], given_settings: dict[str, Any], pages: list[str]
) -> None:
    objects = fixtures(pages)
    for n, keys in enumerate(written):
        objects.append(
            declared("beat", BEAT.validate_python({"slug": f"b{n}"} | keys), pages[n % len(pages)])
        )
    document = reread(objects, Settings.model_validate(given_settings))
    assert by_name(document.objects) == by_name(objects)
    assert document.settings == Settings.model_validate(given_settings)


@settings(max_examples=100, deadline=None)
@given(st.lists(beats, max_size=3), st.randoms(use_true_random=False))
def test_the_text_is_the_same_whatever_order_the_store_has(written: list[dict[str, Any]], dice: Any) -> None:
    head, tail = fixtures(["shop"]), []
    for n, keys in enumerate(written):
        tail.append(declared("beat", BEAT.validate_python({"slug": f"b{n}"} | keys), "shop"))
    text = dump([*head, *tail], Settings())
    dice.shuffle(tail)
    assert dump([*head, *tail], Settings()) == text


def test_only_what_differs_from_its_default_is_written() -> None:
    spec = BEAT.validate_python(
        {"slug": "b", "type": "tcp", "host": "h", "port": 1, "interval": 60, "retries": 2}
    )
    text = dump(
        [declared("page", Page(slug="shop", name="Shop")), declared("beat", spec, "shop")], Settings()
    )
    assert text == (
        "version: 1\n\npages:\n  - slug: shop\n    name: Shop\n\n"
        "beats:\n  - slug: b\n    type: tcp\n    retries: 2\n    host: h\n    port: 1\n"
    )


levels = st.sampled_from(["any", "all", "majority", 1, "50%", {"open": "majority", "close": "all"}])
zoned = st.one_of(
    levels,
    st.sampled_from([{"zone": 2}, {"europe": 1, "asia": 1}, {"open": {"zone": 1}, "close": {"europe": 1}}]),
)
advisories = st.sampled_from(["off", False, "10m"])
episodes = st.fixed_dictionaries(
    {},
    optional={
        "worse_after": st.floats(0, 600),
        "better_after": st.sampled_from(["0s", "2m", "1h"]),
        "resolve_delay": st.floats(0, 600),
        "reopen_window": st.sampled_from([0, "30m"]),
        "inactivity": st.sampled_from(["off", False, "1d"]),
        "flapping": st.sampled_from(["off", False, {}, {"changes": 4, "within": "30m", "quiet": "5m"}]),
    },
)
groups = st.fixed_dictionaries(
    {},
    optional={
        "quorum": st.fixed_dictionaries(
            {}, optional={"critical": levels, "warning": levels, "advisory_after": advisories}
        ),
        "episodes": episodes,
        "late_members": st.sampled_from(["evidence", "update"]),
        "channels": st.just(["ops"]),
    },
)
members = st.fixed_dictionaries(
    {},
    optional={
        "quorum": st.fixed_dictionaries(
            {}, optional={"critical": zoned, "warning": zoned, "advisory_after": advisories}
        ),
        "episodes": episodes,
        "group": st.sampled_from(["g0", "g1"]),
        "depends_on": st.sampled_from([["db"], ["group:deep"], ["db", "group:deep"]]),
    },
)


@settings(max_examples=100, deadline=None)
@given(st.lists(groups, min_size=2, max_size=2), st.lists(members, max_size=3))
def test_groups_episodes_and_zones_read_back_equal(
    of_groups: list[dict[str, Any]], of_beats: list[dict[str, Any]]
) -> None:
    objects = [declared("page", Page(slug="shop", name="shop"))]
    objects += [
        declared("region", Region(slug=slug, zone=zone)) for slug, zone in (("eu", "europe"), ("ap", "asia"))
    ]
    hook = {"slug": "ops", "type": "webhook", "url": "${env:HOOK}"}
    objects.append(declared("channel", CHANNEL.validate_python(hook), "shop"))
    base = {"type": "tcp", "host": "h", "port": 1}
    for slug, keys in (("deep", {}), *((f"g{n}", keys) for n, keys in enumerate(of_groups))):
        objects.append(declared("group", Group.model_validate({"slug": slug} | keys), "shop"))
    for slug, keys in (("db", {}), *((f"b{n}", keys) for n, keys in enumerate(of_beats))):
        objects.append(declared("beat", BEAT.validate_python({"slug": slug} | base | keys), "shop"))
    assert by_name(reread(objects, Settings()).objects) == by_name(objects)


def test_a_group_that_wants_a_majority_reads_back_as_one() -> None:
    group = Group.model_validate({"slug": "g", "quorum": {"critical": "majority"}})
    assert Group.model_validate(written(group)) == group


def test_durations_are_text_and_secrets_stay_references() -> None:
    text = dump(
        fixtures(["shop"]), Settings.model_validate({"watchdog": {"url": "${env:HOOK}", "every": 90}})
    )
    assert "every: 90s" in text
    assert '"${env:HOOK}"' in text


@pytest.mark.parametrize(
    "name",
    [
        "no",
        "Yes",
        "null",
        "~",
        "1.0",
        "0x10",
        "1e3",
        ".5",
        "- a",
        "a: b",
        "a #b",
        "# a",
        "<<",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "'a'",
        '"a"',
        "{a}",
        "[a]",
        "a\tb",
        "é",
        "😀",
        "\u2028x",
        "\x7fx",
        "\ufeffx",
        "\x85x",
        "on",
        "off",
        "|",
        ">",
        "?",
        "-",
        "=",
        "\\n",
    ],
)
def test_a_name_that_yaml_could_take_for_something_else_stays_text(name: str) -> None:
    objects = fixtures(["shop"])
    objects.append(
        declared(
            "component", Component(slug="odd", name="x" + name, group="y" + name, description=name), "shop"
        )
    )
    assert by_name(reread(objects, Settings()).objects) == by_name(objects)


@given(st.integers(0, 10**16))
def test_a_size_reads_back(size_bytes: int) -> None:
    assert parse_size_bytes(format_size(size_bytes)) == size_bytes


def test_a_page_that_never_speaks_of_silence_says_off() -> None:
    page = Page(slug="shop", name="Shop", speak_every=None, reopen_within=3600.0)
    text = dump([declared("page", page)], Settings())
    assert "    reopen_within: 1h\n    speak_every: off\n" in text
    assert parse(text, "upbeat.yaml", ENVIRONMENT).objects[0].spec == page
