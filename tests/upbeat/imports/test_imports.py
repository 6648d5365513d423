"""Other monitors' files: what they become, what is named, and that nothing in them stops an import or leaks from it."""

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rules.beat import AnyBeat
from upbeat.imports.blackbox import take_blackbox
from upbeat.imports.conditions import ConditionError, assertion_of
from upbeat.imports.draft import Draft
from upbeat.imports.gatus import take_gatus
from upbeat.imports.kuma import take_kuma
from upbeat.imports.openstatus import take_openstatus
from upbeat.imports.source import Read, SourceError, go_duration_s, read_json, read_yaml

HERE = Path(__file__).parent
Take = Callable[[Any, Draft], None]


def source(name: str) -> Read:
    return (read_json if name.endswith(".json") else read_yaml)((HERE / name).read_text("utf-8"))


def take_probed(value: Any, draft: Draft) -> None:
    take_blackbox(value, draft, source("prometheus.yml").value)


FILES: dict[str, Take] = {
    "openstatus.yaml": take_openstatus,
    "gatus.yaml": take_gatus,
    "blackbox.yml": take_probed,
    "kuma.json": take_kuma,
}


class Taken:
    """A sample, imported."""

    def __init__(self, name: str, take: Take | None = None, text: str | None = None) -> None:
        read = source(name) if text is None else read_yaml(text)
        self.draft = Draft(read.lines)
        (take or FILES[name])(read.value, self.draft)
        self.text, document = self.draft.document()
        self.settings = document.settings
        self.specs = {
            one.slug: one.spec.model_dump(mode="json", exclude_defaults=True) for one in document.objects
        }
        self.beats = {one.slug for one in document.objects if isinstance(one.spec, AnyBeat)}

    def noted(self, path: str) -> str:
        """What is said of this very path."""
        return "; ".join(note.message for note in self.draft.notes if note.path == path)


@pytest.mark.parametrize("name", FILES)
def test_no_secret_of_the_source_is_copied_or_told(name: str) -> None:
    taken = Taken(name)
    assert "canary" in (HERE / name).read_text()
    assert "canary" not in f"{taken.text}{taken.draft.notes}"


@pytest.mark.parametrize("name", FILES)
def test_the_same_file_gives_the_same_text(name: str) -> None:
    assert Taken(name).text == Taken(name).text


def test_openstatus_keeps_its_defaults_and_names_what_is_cut() -> None:
    taken = Taken("openstatus.yaml")
    front, database = taken.specs["shop-front"], taken.specs["database"]
    assert (front["interval"], front["timeout"], front["retries"]) == ("10m", "45s", 2)
    assert front["regions"] == ["iad", "ams", "syd", "koyeb-fra"]
    assert front["degraded_after"] == "800ms"
    assert front["auth"]["basic"] == {"username": "user", "password": "${env:SHOP_FRONT_PASSWORD}"}
    assert front["assertions"] == [
        {"of": "status", "eq": 200},
        {"of": "header", "name": "X-Debug", "empty": True},  # also when it is absent
        {"of": "body", "not": True, "contains": "error"},
    ]
    assert (database["enabled"], database["timeout"]) == (False, "30s")
    assert "cut to 30 s" in taken.noted("database")
    assert "inactive" in taken.noted("database.active")
    assert "no counterpart" in taken.noted("database.color")
    assert "no counterpart" in taken.noted("shop-front.assertions[2]")
    assert {note.line for note in taken.draft.notes if note.path == "shop-front.request.cookies"} == {20}
    assert taken.settings.otlp is not None
    assert (taken.settings.otlp.endpoint, taken.settings.otlp.names) == (
        "https://otlp.example.com",
        "openstatus",
    )


def test_gatus_endpoints_become_beats_of_their_kinds() -> None:
    taken = Taken("gatus.yaml")
    types = {slug: taken.specs[slug]["type"] for slug in taken.beats}
    assert types == {
        "core-front": "http",
        "names": "dns",
        "host": "icmp",
        "cache": "tcp",
        "mail": "tls",
        "shell": "tcp",
        "graph": "http",
        "core-import": "external",
        "nightly": "heartbeat",
        "sign-in": "http",
    }
    front = taken.specs["core-front"]
    assert (front["tags"], front["channels"], front["verify"]) == (["Core"], ["slack", "pagerduty"], False)
    assert front["quorum"]["consecutive"] == {"open": 4, "close": 3}
    assert front["headers"]["X-Api-Key"] == "${env:API_KEY}"
    assert taken.specs["mail"] | {} == taken.specs["mail"] | {"starttls": "smtp"}
    assert taken.specs["mail"]["expires_within"] == {"warning": "21d", "critical": "2d"}
    assert taken.specs["local"]["reference"] == ["192.0.2.1:53"]
    steps = taken.specs["sign-in"]["steps"]
    assert (steps[0]["capture"], steps[0]["url"]) == (
        {"token": {"json": "$.token"}},
        "https://api.example/login",
    )
    assert (steps[1]["headers"], steps[1]["always"]) == ({"Authorization": "Bearer ${capture:token}"}, True)
    for path in (
        "endpoints[6].url",
        "endpoints[0].conditions[3]",
        "alerting.pagerduty.integration-key",
        "storage",
        "endpoints[0].retention",
    ):
        assert taken.noted(path), path


@pytest.mark.parametrize(
    ("condition", "kind", "assertion"),
    [
        ("[STATUS] == any(200, 429)", "http", {"of": "status", "in": [200, 429]}),
        ("[STATUS] < 300", "http", {"of": "status", "lt": 300}),
        ("200 == [STATUS]", "http", {"of": "status", "eq": 200}),
        ("[RESPONSE_TIME] < 150", "http", {"of": "timing.total", "lt": "150ms"}),
        ("[RESPONSE_TIME] < 150", "icmp", {"of": "rtt", "lt": "150ms"}),
        ("[BODY] == pat(*ok*)", "http", {"of": "body", "contains": "ok"}),
        (
            "[BODY] == OK.",
            "http",
            {"of": "body", "matches": r"^\s*(?:OK\.)\s*$"},
        ),  # Gatus cuts white space off
        ("[BODY] == any(a, b)", "tcp", {"of": "body", "matches": r"^\s*(?:a|b)\s*$"}),
        ("[BODY] != pat(<*)", "http", {"of": "body", "matches": r"^\s*<(?s:.*)\s*$", "not": True}),
        ("[BODY] == pat(a?c)", "http", {"of": "body", "matches": r"^\s*a(?s:.)c\s*$"}),
        ("[BODY] >= 5", "http", {"of": "body", "as": "number", "ge": 5}),
        ("[BODY].n == any(1, x)", "http", {"of": "json", "path": "$.n", "in": [1, "1", "x"]}),
        ("[STATUS] == pat(2*)", "http", {"of": "status", "between": [200, 299]}),
        ("[BODY] == pat(*.example.)", "dns NS", {"of": "record", "type": "NS", "ends": ".example"}),
        (
            "[BODY] == a.example.",
            "dns MX",
            {"of": "record", "type": "MX", "matches": r"^\d+ (?:a\.example)$"},
        ),
        (
            "len([BODY].o) > 0",
            "http",
            {
                "of": "json",
                "path": "$.o",
                "schema": {
                    "anyOf": [
                        {"type": "array", "minItems": 1},
                        {"type": "string", "minLength": 1},
                        {"type": ["object", "number", "boolean"]},
                    ]
                },
            },
        ),
        ("[BODY].n == 5", "http", {"of": "json", "path": "$.n", "in": [5, "5"]}),
        ("[BODY].a[0].b-c != x", "http", {"of": "json", "path": "$.a[0]['b-c']", "ne": "x"}),
        (
            "len([BODY].data) == 2",
            "http",
            {
                "of": "json",
                "path": "$.data",
                "schema": {
                    "anyOf": [
                        {"type": "array", "minItems": 2, "maxItems": 2},
                        {"type": "string", "minLength": 2, "maxLength": 2},
                    ]
                },
            },
        ),
        ('[BODY].o == {"a": 1}', "http", {"of": "json", "path": "$.o", "in": [{"a": 1}, '{"a": 1}']}),
        ("has([BODY].errors) == false", "http", {"of": "json", "path": "$.errors", "exists": False}),
        ("[CERTIFICATE_EXPIRATION] > 48h", "http", {"of": "certificate.leaf_days_left", "gt": 2.0}),
        ("[DNS_RCODE] == NXDOMAIN", "dns", {"of": "rcode", "eq": "NXDOMAIN"}),
        ("[BODY] == pat(ns*)", "dns", {"of": "record", "type": "A", "starts": "ns"}),
        ("[CONNECTED] == true", "tcp", None),
    ],
)
def test_a_condition_of_gatus_is_an_assertion(
    condition: str, kind: str, assertion: dict[str, Any] | None
) -> None:
    assert assertion_of(condition, *kind.split()) == assertion


@pytest.mark.parametrize(
    "condition", ["[IP] == 192.0.2.1", "[CONNECTED] == false", "nothing", "[STATUS] == [BODY]", ""]
)
def test_a_condition_without_a_counterpart_says_so(condition: str) -> None:
    with pytest.raises(ConditionError):
        assertion_of(condition, "http")


def test_each_target_of_a_blackbox_module_is_a_beat() -> None:
    taken = Taken("blackbox.yml")
    assert {"shop-web-shop-example", "shop-web-api-example-8080", "zone-zone-192-0-2-53"} < taken.beats
    web = taken.specs["shop-web-shop-example"]
    assert (web["interval"], web["timeout"], web["ip"]) == ("15s", "5s", 4)
    assert (web["ca"], web["tags"]) == ("${file:/etc/shop/ca.pem}", ["shop", "team:a"])
    assert {"of": "body", "not": True, "matches": "database is away"} in web["assertions"]
    assert (taken.specs["mail"]["starttls"], taken.specs["post"]["starttls"]) == ("smtp", "imap")
    assert taken.specs["mail"]["steps"] == [{"send": "EHLO prober\r\n"}, {"matches": "(?m)^250-AUTH"}]
    assert taken.specs["chat"]["steps"][-1] == {"send": "PONG ${capture:group_2}\n"}
    assert taken.specs["echo"]["enabled"] is False
    for path in (
        "modules.echo",
        "modules.rpc.prober",
        "modules.web.http.compression",
        "targets.scrape_configs[2]",
    ):
        assert taken.noted(path), path


def test_modules_alone_wait_for_a_target() -> None:
    taken = Taken("blackbox.yml", take_blackbox)
    assert "web" in taken.beats
    assert not any(taken.specs[slug].get("enabled", True) for slug in taken.beats)


def test_monitors_of_kuma_become_beats() -> None:
    taken = Taken("kuma.json")
    assert taken.beats == {
        *("shop-prod", "shop-prod-2", "no-errors", "queue", "ssh", "host", "zone", "nightly-job", "orders"),
    }
    shop = taken.specs["shop-prod"]
    assert (shop["tags"], shop["channels"]) == (["Core", "env:prod"], ["ops"])
    assert shop["quorum"]["consecutive"] == {"open": 3, "close": 1}
    assert shop["proxy"] == "http://u:${env:SHOP_PROD_PROXY_PASSWORD}@proxy.example:3128"
    assert shop["assertions"] == [
        {"of": "status", "between": [200, 301]},
        {"of": "status", "not": True, "between": [300, 300]},
        {"of": "certificate.days_left", "severity": "warning", "ge": 21},
    ]
    assert taken.specs["no-errors"]["assertions"] == [{"of": "body", "not": True, "contains": "error"}]
    assert taken.specs["queue"]["assertions"] == [{"of": "json", "path": "$.queue.length", "lt": 200}]
    assert (taken.specs["nightly-job"]["every"], taken.specs["orders"]["preset"]) == ("1h", "postgres")
    for number in (0, 8, 9):
        assert any(note.path.startswith(f"monitorList[{number}]") for note in taken.draft.notes)
    assert taken.noted("monitorList[11].brandNew")


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m30s", 90.0), ("500ms", 0.5), ("2d", 172_800.0), (30, 30.0)]
)
def test_durations_are_read_as_go_writes_them(text: object, seconds: float) -> None:
    assert go_duration_s(text) == seconds


GATUS = "endpoints: [{{name: x, url: 'https://shop.example', {}}}]"
BLACKBOX = "modules: {{x: {}}}"
OPENSTATUS = "x: {{kind: http, active: true, frequency: 1m, request: {{url: 'https://shop.example'}}, {}}}"
KUMA = "monitorList: [{{id: 1, name: x, type: http, url: 'https://shop.example', {}}}]"


@pytest.mark.parametrize(
    ("take", "text", "spec"),
    [
        pytest.param(
            take_gatus,
            GATUS.format("conditions: ['[RESPONSE_TIME] < 300']"),
            {"assertions": [{"of": "timing.total", "lt": "300ms"}, {"of": "status", "between": [100, 599]}]},
            id="what Gatus does not look at is not looked at",
        ),
        pytest.param(
            take_gatus,
            GATUS.format("extra-labels: {team: a}, alerts: [{type: custom, description: d}]")
            + "\nalerting: {custom: {url: 'https://a.example', default-alert: {enabled: false}}}",
            {"tags": ["team:a"], "channels": None, "description": None},
            id="an alert is off where the default is",
        ),
        pytest.param(
            take_gatus,
            "endpoints: [{name: x, url: 300.1.1.1, dns: {query-name: shop.example, query-type: A}}]",
            {"enabled": False, "resolver": None},
            id="another resolver than the one meant is not asked",
        ),
        pytest.param(
            take_gatus,
            "suites: [{name: x, endpoints: [{name: a, url: 'https://a.example', store: {item-id: '[BODY].id'}}, "
            "{name: off, enabled: false, url: 'https://a.example'}, {name: b, url: 'https://a.example/[CONTEXT].item-id'}]}]",
            {"timeout": "5m", "steps.1.url": "https://a.example/${capture:item_id}", "steps.2": None},
            id="a suite has its own time, names with hyphens, and steps that are off",
        ),
        pytest.param(
            take_blackbox,
            BLACKBOX.format(
                "{prober: http, http: {valid_http_versions: [HTTP/2], ip_protocol_fallback: false}}"
            ),
            {"http": "auto", "ip": 6},
            id="HTTP/2 is spoken, and IPv6, unless it is said otherwise",
        ),
        pytest.param(
            take_blackbox,
            BLACKBOX.format(
                "{prober: http, http: {proxy_url: 'http://u:canary@p.example:1', http_headers: {X-Api-Key: {values: [canary-key]}}}}"
            ),
            {
                "proxy": "http://u:${env:X_PROXY_PASSWORD}@p.example:1",
                "headers.X-Api-Key": "${env:X_X_API_KEY}",
            },
            id="a proxy's password and a key among the values of a header are secrets",
        ),
        pytest.param(
            take_blackbox,
            BLACKBOX.format(
                "{prober: http, http: {fail_if_header_matches: [{header: Set-Cookie, regexp: '.*', allow_missing: true}]}}"
            ),
            {"assertions": [{"of": "header", "name": "Set-Cookie", "exists": False}]},
            id="a header that must not be there",
        ),
        pytest.param(
            take_blackbox,
            BLACKBOX.format(
                "{prober: tcp, tcp: {query_response: [{expect: '^a ([^ ]+)$'}, {expect: '^b'}]}}"
            ),
            {"steps": [{"matches": r"(?m)^a ([^\r\n ]+)\r?$(?s:.*\n.*?)^b"}]},
            id="lines that may come at once are heard at once",
        ),
        pytest.param(
            take_blackbox,
            BLACKBOX.format(
                "{prober: tcp, tcp: {query_response: [{send: !!binary AAAACATSFi8=}, {expect_bytes: S}, {starttls: true}]}}"
            ),
            {"starttls": "postgres", "steps": None},
            id="PostgreSQL is asked for TLS",
        ),
        pytest.param(
            take_openstatus,
            OPENSTATUS.format("retry: 0, assertions: [{kind: textBody, compare: eq, target: true}]"),
            {
                "retries": 2,
                "assertions.0.eq": "true",
                "assertions.1": {"of": "status", "between": [100, 599]},
            },
            id="no retry is three attempts, and true is text",
        ),
        pytest.param(
            take_kuma,
            KUMA.format("keyword: old, interval: 900"),
            {"assertions": None, "timeout": "5m"},
            id="a keyword left over from another type is not asked for",
        ),
        pytest.param(
            take_kuma,
            "monitorList: [{id: 1, type: group, name: a, active: false}, {id: 2, type: group, name: b, parent: 1}, "
            "{id: 3, name: x, type: http, url: 'https://a.example', parent: 2}]",
            {"enabled": False, "tags": ["a", "b"]},
            id="a monitor is in all groups above it, and off with them",
        ),
    ],
)
def test_what_is_carried_means_the_same(take: Take, text: str, spec: dict[str, Any]) -> None:
    taken = Taken("", take, text)
    assert "canary" not in taken.text
    for path, expected in spec.items():
        value: Any = taken.specs["x"]
        for step in path.split("."):
            try:
                value = value[int(step) if isinstance(value, list) else step]
            except LookupError:
                value = None
        assert value == expected, path


@pytest.mark.parametrize(
    ("take", "text", "path", "said"),
    [
        (take_gatus, GATUS.format("ui: {hide-url: true}"), "endpoints[0].ui", "no counterpart"),
        (
            take_gatus,
            GATUS.format("alerts: [{type: x, send-on-resolved: false}]"),
            "endpoints[0].alerts[0].send-on-resolved",
            "not kept",
        ),
        (take_gatus, GATUS.format("body: '[RANDOM_STRING_9]'"), "endpoints[0].body", "not replaced"),
        (
            take_gatus,
            GATUS.format("dns: {query-name: a.example, query-type: ANY}"),
            "endpoints[0]",
            "is not imported: record",
        ),
        (take_gatus, "metrics: true\nendpoints: []", "metrics", "Gatus' own"),
        (
            take_blackbox,
            BLACKBOX.format("{prober: http, http: {valid_status_codes: [2xx]}}"),
            "modules.x.http.valid_status_codes",
            "no status",
        ),
        (
            take_blackbox,
            BLACKBOX.format("{prober: http}"),
            "modules.x.http.preferred_ip_protocol",
            "IPv6 first",
        ),
        (
            take_blackbox,
            BLACKBOX.format('{prober: tcp, tcp: {query_response: [{send: "\\ud800\\0"}]}}'),
            "modules.x",
            "no target",
        ),
        (
            take_gatus,
            "endpoints: [{name: x, url: 'tls://a.example:443'}]",
            "endpoints[0].conditions",
            "certificate's end",
        ),
        (
            take_gatus,
            "endpoints: []\nalerting: {email: {host: h, port: 25, from: a@a.example, to: b@a.example}}",
            "alerting.email",
            "over TLS alone",
        ),
        (take_gatus, GATUS.format("group: Группа"), "endpoints[0]", "no letter that a tag may have"),
        (take_kuma, KUMA.format("cacheBust: true"), "monitorList[0].cacheBust", "no counterpart"),
        (take_kuma, KUMA.format("maxredirects: 20"), "monitorList[0].maxredirects", "10 is taken"),
        (
            take_kuma,
            "notificationList: [{id: 1, config: {type: slack, slackwebhookURL: 'https://a.example', slackchannel: a}}]\nmonitors: []",
            "notificationList[0].config.slackchannel",
            "no counterpart",
        ),
    ],
)
def test_what_is_not_carried_is_named(take: Take, text: str, path: str, said: str) -> None:
    assert said in Taken("", take, text).noted(path)


@pytest.mark.parametrize(
    ("take", "text"),
    [
        (take_gatus, "modules: {}"),
        (take_blackbox, "endpoints: []"),
        (take_openstatus, "services: {web: {image: x}}"),
        (take_kuma, "endpoints: []"),
    ],
)
def test_a_file_of_another_kind_is_told(take: Take, text: str) -> None:
    with pytest.raises(SourceError, match=r"mapping|monitorList"):
        take(read_yaml(text).value, Draft({}))


def test_a_manifest_that_holds_the_file_is_told() -> None:
    with pytest.raises(SourceError, match=r"Kubernetes ConfigMap; give the file it holds: config\.yaml"):
        read_yaml("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {config.yaml: x}\n---\na: 1")


ODD: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        1e300,
        float("nan"),
        "",
        "x",
        "inf",
        "${env:",
        "${X}",
        "$",
        "a\x00b",
        "é" * 300,
        "999999h",
    ),
    *("http://[", "tcp://", "http://u:p@h:99999/?token=a", "[BODY].a[0 == pat(*[a)", "len([BODY]) > x"),
    *([], {}, [None], [[1]], {"a": [{}]}, {"values": 5}),
]


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*place, key)
        yield from places(one, (*place, key))


@pytest.mark.parametrize("name", FILES)
def test_no_file_stops_an_import_whatever_is_wrong_with_it(name: str) -> None:
    chance, whole = random.Random(name), source(name).value
    for _ in range(12):
        value = copy.deepcopy(whole)
        for _ in range(chance.randint(1, 3)):
            place = chance.choice([*places(value)] or [()])
            holder = value
            for key in place[:-1]:
                holder = holder[key]
            if place:
                holder[place[-1]] = copy.deepcopy(chance.choice(ODD))
        draft = Draft({})
        try:
            FILES[name](value, draft)
        except SourceError:
            continue
        draft.document()  # the real parser takes it


@pytest.mark.parametrize(
    "text", ["a: [", "a: 1\na: 2", "\t- x", "&a [*a", "a: !!binary x\nb: *none", "[" * 200]
)
def test_what_is_no_yaml_is_told(text: str) -> None:
    with pytest.raises(SourceError):
        read_yaml(text)


def test_aliases_that_grow_without_end_are_refused() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for n in range(1, 9):
        text += f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n"
    with pytest.raises(SourceError, match="more than"):
        read_yaml(text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "discord: {webhook-url: 'https://d.example/canary'}",
            {"type": "discord", "url": "${env:DISCORD_URL}"},
        ),
        (
            "teams-workflows: {webhook-url: 'https://t.example/c'}",
            {"type": "teams", "url": "${env:TEAMS_WORKFLOWS_URL}"},
        ),
        ("pagerduty: {integration-key: canary-key}", {"type": "pagerduty", "key": "${env:PAGERDUTY_KEY}"}),
        ("opsgenie: {api-key: canary-key}", {"type": "opsgenie", "key": "${env:OPSGENIE_KEY}"}),
        (
            "telegram: {token: canary-token, id: '42'}",
            {"type": "apprise", "urls": ["tgram://${env:TELEGRAM_TOKEN}/${env:TELEGRAM_ID}"]},
        ),
    ],
)
def test_gatus_providers_become_channels(given: str, expected: dict[str, Any]) -> None:
    taken = Taken("", take_gatus, f"endpoints: []\nalerting: {{{given}}}")
    (spec,) = [spec for spec in taken.specs.values() if spec.get("type") == expected["type"]]
    assert {key: spec[key] for key in expected} == expected
    assert "canary" not in taken.text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("type: discord, discordWebhookUrl: 'https://d.example/canary'", {"type": "discord"}),
        ("type: teams, webhookUrl: 'https://t.example/canary'", {"type": "teams"}),
        ("type: PagerDuty, pagerdutyIntegrationKey: canary-key", {"type": "pagerduty"}),
        (
            "type: Opsgenie, opsgenieApiKey: canary-key, opsgenieRegion: eu",
            {"type": "opsgenie", "region": "eu"},
        ),
        ("type: GrafanaOncall, GrafanaOncallURL: 'https://g.example/canary'", {"type": "grafana_oncall"}),
        (
            "type: apprise, appriseURL: 'ntfys://canary.example/t'",
            {"type": "apprise", "urls": ["${env:OPS_URLS}"]},
        ),
    ],
)
def test_kuma_notifications_become_channels(given: str, expected: dict[str, Any]) -> None:
    text = f"notificationList: [{{id: 1, name: Ops, config: {{{given}}}}}]\nmonitors: []"
    taken = Taken("", take_kuma, text)
    (spec,) = [spec for spec in taken.specs.values() if spec.get("type") == expected["type"]]
    assert {key: spec[key] for key in expected} == expected
    assert "canary" not in taken.text
