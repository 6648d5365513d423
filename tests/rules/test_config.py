"""`upbeat.yaml`: one mistake per file in `bad/`, with the exact message in its first line; and what a good file means."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.beat import BEAT
from rules.component import Component, Region
from rules.config import ConfigError, Document, Known, Problem, check_references, parse
from rules.kinds.http import HttpBeat
from rules.known import Ref
from rules.settings import Settings

BAD = sorted((Path(__file__).parent / "bad").glob("*.yml"))
ENVIRONMENT = {"env:NOT_A_URL": "s3cret value", "env:TOKEN": "t0ken"}
BEAT_TEXT = "beats:\n  - {slug: shop, type: http, url: 'https://example.com/'}\n"


def told(text: str, known: Known | None = None) -> list[str]:
    """Everything that is wrong with `text`."""
    with pytest.raises(ConfigError) as refused:
        parse(text, "upbeat.yaml", ENVIRONMENT, known)
    return [str(problem) for problem in refused.value.problems]


def read(text: str, known: Known | None = None) -> Document:
    return parse(text, "upbeat.yaml", ENVIRONMENT, known)


def only_beat(text: str) -> HttpBeat:
    (beat,) = [declared.spec for declared in read(text).objects if declared.kind == "beat"]
    assert isinstance(beat, HttpBeat)
    return beat


def named(document: Document) -> list[tuple[str, str, str | None]]:
    return [(declared.kind, declared.slug, declared.page) for declared in document.objects]


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem.replace("-", " "))
def test_each_mistake_has_its_message(file: Path) -> None:
    text = file.read_text()
    assert told(text) == [text.split("\n", 1)[0].removeprefix("# ")]


def test_there_are_many_mistakes() -> None:
    assert len(BAD) >= 35


GOOD = """\
version: 1
public_url: https://status.example.com
trusted_proxies: [10.0.0.0/8]
pages: [{slug: shop, name: Shop}]
components: [{slug: checkout, name: Checkout}]
regions: [eu-west, us-east, {slug: ap-south, name: Mumbai, reference: ["1.1.1.1:53"]}]
defaults: {interval: 30s, regions: [eu-west, us-east], quorum: {consecutive: {open: 3}, confirm: off}}
egress: {allow: [127.0.0.1/32]}
channels: [{slug: ops, type: webhook, url: "http://127.0.0.1:9000/hook"}]
retention: {days: 7, size: 500MB}
beats:
  - slug: checkout
    type: http
    url: https://example.com/health
    components: [checkout]
    channels: [ops]
    headers: {Authorization: "Bearer ${env:TOKEN}"}
    quorum: {critical: all}
  - {slug: db, type: tcp, host: db.example.com, port: 5432, regions: [ap-south], timeout: 2s}
"""


def test_objects_come_in_order_of_reference_each_with_its_page_and_line() -> None:
    document = read(GOOD)
    assert [(o.kind, o.slug, o.page, o.line) for o in document.objects] == [
        ("page", "shop", None, 4),
        ("region", "eu-west", None, 6),
        ("region", "us-east", None, 6),
        ("region", "ap-south", None, 6),
        ("component", "checkout", "shop", 5),
        ("channel", "ops", "shop", 9),
        ("beat", "checkout", "shop", 12),
        ("beat", "db", "shop", 19),
    ]


def test_settings_are_read() -> None:
    found = read(GOOD).settings
    assert found.public_url == "https://status.example.com"
    assert found.egress.allow == ["127.0.0.1/32"]
    assert (found.retention.days, found.retention.size) == (7, 500_000_000)


def test_a_reference_to_a_secret_stays_as_written() -> None:
    (beat,) = [o.spec for o in read(GOOD).objects if o.slug == "checkout" and isinstance(o.spec, HttpBeat)]
    assert beat.headers == {"Authorization": "Bearer ${env:TOKEN}"}


def test_defaults_hold_where_a_beat_says_nothing_and_quorum_is_merged_by_key() -> None:
    beat = only_beat(GOOD.split("  - {slug: db", maxsplit=1)[0])
    assert (beat.interval, beat.regions) == (30.0, ["eu-west", "us-east"])
    assert (beat.quorum.critical.open, beat.quorum.consecutive.open, beat.quorum.confirm) == ("all", 3, None)


def test_a_beats_own_key_replaces_the_whole_default() -> None:
    assert only_beat("defaults: {tags: [a]}\n" + BEAT_TEXT.replace("type", "tags: [b], type")).tags == ["b"]


def test_null_takes_a_default_away() -> None:
    text = "defaults: {degraded_after: 1s}\n" + BEAT_TEXT.replace("type", "degraded_after: null, type")
    assert only_beat(text).degraded_after.limits_s == ()


def test_one_page_may_be_written_as_a_mapping() -> None:
    assert named(read("page: {slug: shop, name: Shop}\n" + BEAT_TEXT))[0] == ("page", "shop", None)


def test_a_page_and_a_region_are_implied_where_there_are_none() -> None:
    assert named(read(BEAT_TEXT)) == [
        ("page", "status", None),
        ("region", "local", None),
        ("beat", "shop", "status"),
    ]


def known_of(*pages: str, regions: Sequence[str] = (), **on_pages: list[str]) -> Known:
    """What exists: pages, regions, and slugs as `page/slug` by kind."""
    found: list[tuple[Ref, dict[str, Any]]] = [(("page", None, slug), {}) for slug in pages]
    found += [(("region", None, slug), {}) for slug in regions]
    for kind, paths in on_pages.items():
        for path in paths:
            page, _, slug = path.partition("/")
            found.append(((kind, page, slug), {}))  # type: ignore[arg-type]
    return Known.of(found)


def test_nothing_is_implied_where_something_exists_besides_the_file() -> None:
    known = known_of("shop", regions=["eu"])
    assert named(read(BEAT_TEXT, known)) == [("beat", "shop", "shop")]


def test_a_file_may_refer_to_what_exists_besides_it() -> None:
    known = known_of("shop", regions=["eu"], channel=["shop/ops"], component=["shop/cart"])
    text = BEAT_TEXT.replace("type", "regions: [eu], channels: [ops], components: [cart], type")
    assert named(read(text, known)) == [("beat", "shop", "shop")]


def test_the_files_own_page_is_home_even_where_others_exist() -> None:
    known = known_of("bank")
    assert ("beat", "shop", "shop") in named(read("page: {slug: shop, name: Shop}\n" + BEAT_TEXT, known))


def test_the_same_slug_on_two_pages_is_two_objects() -> None:
    text = "pages: [{slug: a, name: A}, {slug: b, name: B}]\nbeats:\n"
    text += "".join(f"  - {{slug: shop, page: {page}, type: tcp, host: h, port: 1}}\n" for page in "ab")
    assert named(read(text))[-2:] == [("beat", "shop", "a"), ("beat", "shop", "b")]


def test_components_of_another_page_are_named_with_it() -> None:
    text = (
        "pages: [{slug: a, name: A}, {slug: b, name: B}]\ncomponents: [{slug: cart, name: Cart, page: b}]\n"
    )
    text += "beats: [{slug: shop, page: a, type: tcp, host: h, port: 1, components: [b/cart]}]\n"
    assert len(read(text).objects) == 5


def test_all_mistakes_are_told_together_in_order_of_lines() -> None:
    text = "versoin: 1\nregions: [eu]\nbeats:\n"
    text += "  - {slug: a, type: tcp, host: h, port: 0, regions: [us], channels: [ops]}\n"
    text += "  - {slug: b, type: http, url: 'https://example.com/', body: '${env:NOPE}'}\n"
    assert [line.split(": ")[0].removeprefix("upbeat.yaml:") for line in told(text)] == [
        "1",
        "4",
        "4",
        "4",
        "5",
    ]


def test_a_mistake_in_the_defaults_is_told_once() -> None:
    text = "defaults: {retries: 9}\n" + BEAT_TEXT + "  - {slug: b, type: tcp, host: h, port: 1}\n"
    assert told(text) == ["upbeat.yaml:1: defaults.retries: 9 is out of range; at most 5 is allowed"]


def test_an_unknown_default_is_told_once() -> None:
    assert len(told("defaults: {intervall: 30s}\n" + BEAT_TEXT)) == 1


def test_an_aliased_mistake_points_at_where_it_is_written() -> None:
    text = "beats:\n  - {slug: a, type: tcp, host: h, port: 1, quorum: &q {critical: most}}\n"
    text += "  - {slug: b, type: tcp, host: h, port: 1, quorum: *q}\n"
    assert [line.split(": ")[1] for line in told(text)] == ["beats[0].quorum.critical"]


def test_yaml_is_1_2_whatever_its_directive_says() -> None:
    assert only_beat("%YAML 1.1\n---\n" + BEAT_TEXT.replace("type", "name: no, type")).name == "no"


def test_keys_are_text_as_written() -> None:
    text = BEAT_TEXT.replace("type", "headers: {on: a, 404: b}, type")
    assert only_beat(text).headers == {"on": "a", "404": "b"}


def test_a_file_over_4_mb_is_refused_unread() -> None:
    assert told("#" + "x" * 4_000_000) == ["upbeat.yaml:1: the file has 4000001 bytes; 4000000 are allowed"]


def test_a_long_value_is_cut() -> None:
    (line,) = told(BEAT_TEXT.replace("shop", "S" * 5000))
    assert len(line) < 200


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        pytest.param(
            "url: 'https://example.com/'",
            "headers: {X: \"hunter2\\n\"}, url: 'https://example.com/'",
            id="a header",
        ),
        pytest.param("https://example.com/", "ftp://me:hunter2@example.com/", id="the password of a URL"),
        pytest.param(
            "https://example.com/",
            "https://me:hunter2@example.com/ x",
            id="the password of a URL with a space",
        ),
    ],
)
def test_no_message_holds_a_secret(text: str, secret: str) -> None:
    assert "hunter2" not in "".join(told(BEAT_TEXT.replace(text, secret)))


@pytest.mark.parametrize("key", ["url: 'hunter2'", "url: 'http://h/', secret: hunter2"])
def test_no_message_holds_a_channels_secret(key: str) -> None:
    assert "hunter2" not in "".join(told(f"channels: [{{slug: ops, type: webhook, {key}}}]\n"))


def test_no_message_holds_the_value_of_a_variable() -> None:
    assert "s3cret" not in "".join(told(BEAT_TEXT.replace("https://example.com/", "${env:NOT_A_URL}")))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abx:-[]{}&*!|>'\"%@#,?~ \n\t0.", max_size=60))
def test_any_text_is_read_or_refused_with_a_line(text: str) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        read("beats: " + text)
    except ConfigError as refused:
        problems = refused.problems
    assert all(1 <= problem.line <= text.count("\n") + 2 for problem in problems)


# ---- references, as the API asks

KNOWN = known_of(
    "shop", "bank", regions=["eu", "us", "ap"], channel=["shop/ops"], component=["shop/cart", "bank/card"]
)


def beat(**keys: Any) -> Any:
    return BEAT.validate_python({"slug": "b", "type": "tcp", "host": "h", "port": 1, "page": "shop"} | keys)


@pytest.mark.parametrize(
    ("keys", "pointers"),
    [
        pytest.param({}, [], id="nothing is referred to in vain"),
        pytest.param({"page": None}, ["/page"], id="several pages ask which"),
        pytest.param({"page": "nope"}, ["/page"], id="an unknown page ends the matter"),
        pytest.param({"regions": ["eu", "xx"]}, ["/regions/1"], id="a region"),
        pytest.param({"channels": ["ops", "xx"]}, ["/channels/1"], id="a channel"),
        pytest.param({"page": "bank", "channels": ["ops"]}, ["/channels/0"], id="a channel of another page"),
        pytest.param({"components": ["cart", "bank/card"]}, [], id="components of two pages"),
        pytest.param(
            {"components": ["card"]}, ["/components/card"], id="a component of another page without its name"
        ),
        pytest.param({"components": ["bank/cart"]}, ["/components/bank~1cart"], id="a slash is escaped"),
        pytest.param({"components": ["nope/cart"]}, ["/components/nope~1cart"], id="a component of no page"),
        pytest.param(
            {"quorum": {"critical": 4}}, ["/quorum/critical/open"], id="more than there are regions"
        ),
        pytest.param(
            {"regions": ["eu"], "quorum": {"warning": 2}}, ["/quorum/warning/open"], id="than it runs in"
        ),
        pytest.param(
            {"quorum": {"critical": {"open": 1, "close": 2}}}, ["/quorum/critical"], id="an overlap"
        ),
        pytest.param({"quorum": {"min_voters": 4}}, ["/quorum/min_voters"], id="too many voters"),
    ],
)
def test_a_beat_refers_only_to_what_is_known(keys: dict[str, Any], pointers: list[str]) -> None:
    assert [pointer for pointer, _ in check_references("beat", beat(**keys), KNOWN)] == pointers


def test_a_component_belongs_to_the_only_page() -> None:
    cart = Component(slug="cart", name="Cart")
    assert check_references("component", cart, known_of("shop")) == []
    assert check_references("component", cart, Known()) == [
        ("/page", "a component belongs to a page, and there is none")
    ]


def test_pages_and_regions_refer_to_nothing() -> None:
    assert check_references("region", Region(slug="eu"), Known()) == []


def test_settings_have_defaults() -> None:
    assert read("version: 1").settings == Settings()


BEATS = "beats:\n" + "".join(
    f"  - {{slug: {slug}, type: tcp, host: h, port: 1, {{{slug}}}}}\n" for slug in ("cart", "shop", "db")
)
CIRCLES = [
    (
        "groups: []\n",
        {"cart": "depends_on: [shop]", "shop": "depends_on: [db]", "db": "depends_on: [cart]"},
        ["cart needs shop needs db needs cart", "shop needs db needs cart needs shop", "db needs cart needs shop needs db"],
    ),
    (
        "groups: [{slug: all, depends_on: [cart]}]\n",
        {"cart": "group: all"},
        ["group all needs cart needs group all", "cart needs group all needs cart"],
    ),
    (
        "groups: [{slug: all, depends_on: [db]}]\n",
        {"cart": "group: all", "db": "depends_on: [cart]"},
        [
            "group all needs db needs cart needs group all",
            "cart needs group all needs db needs cart",
            "db needs cart needs group all needs db",
        ],
    ),
    (
        "groups: [{slug: all}, {slug: some, depends_on: ['group:all']}]\n",
        {"cart": "group: all", "db": "group: some", "shop": "depends_on: [db]"},
        [],
    ),
    (
        "groups: [{slug: all, depends_on: ['group:some']}, {slug: some}]\n",
        {"cart": "group: all", "db": "group: some, depends_on: [cart]"},
        [
            "group all needs group some needs db needs cart needs group all",
            "cart needs group all needs group some needs db needs cart",
            "db needs cart needs group all needs group some needs db",
        ],
    ),
    ("groups: [{slug: all}]\n", {"cart": "group: all, depends_on: [shop]", "shop": "group: all"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("groups", "keys", "ways"), CIRCLES, ids=lambda value: str(value)[:50])
def test_what_would_wait_for_itself_is_refused_with_the_way_named(
    groups: str, keys: dict[str, str], ways: list[str]
) -> None:
    text = BEATS
    for slug in ("cart", "shop", "db"):
        text = text.replace(f", {{{slug}}}", f", {keys[slug]}" if slug in keys else "")
    if not ways:
        assert read(groups + text).objects
        return
    assert [one.split("itself: ")[1] for one in told(groups + text)] == ways


def test_what_a_file_says_of_an_object_counts_when_circles_are_looked_for() -> None:
    before = read(
        "groups: []\n"
        + BEATS.replace(", {cart}", ", depends_on: [shop]").replace(", {shop}", "").replace(", {db}", "")
    )
    known = Known.of([((o.kind, o.page, o.slug), o.spec.model_dump()) for o in before.objects])
    turned = "beats:\n  - {slug: shop, type: tcp, host: h, port: 1, depends_on: [cart]}\n"
    assert "needs shop" in told(turned, known)[0]
    assert read(turned + "  - {slug: cart, type: tcp, host: h, port: 1}\n", known).objects
