"""OpenStatus' `openstatus.yaml`, its keys as its schema, REST API and Terraform provider spell them."""

import re
from typing import Any, Final

from upbeat.imports.draft import ANY_STATUS, Draft
from upbeat.imports.source import Fields, SourceError

TIMEOUT_MS: Final = 45_000.0  # OpenStatus' defaults
ATTEMPTS: Final = 3
INTERVAL_S: Final = 600.0
REDIRECTS: Final = 10

_NUMBERS: Final = {"eq": "eq", "not_eq": "ne", "gt": "gt", "gte": "ge", "lt": "lt", "lte": "le"}
_TEXTS: Final = {"eq": "eq", "not_eq": "ne", "contains": "contains", "empty": "empty"}
_MONITOR: Final = {"kind", "type", "jobType", "request", "frequency", "periodicity", "url", "uri"}
_SUBJECTS: Final = {"statuscode": "status", "textbody": "body", "jsonbody": "json", "dnsrecord": "record"}


def take_openstatus(source: Any, draft: Draft) -> None:
    """Every monitor becomes a beat. Raises `SourceError`."""
    if not isinstance(source, dict):
        raise SourceError("an openstatus.yaml is a mapping of monitors")
    root, found = Fields(source, "", draft.note), False
    for key in root:
        monitor = root.fields(key) if isinstance(source[key], dict) else Fields({}, "", draft.note)
        is_monitor = any(name in _MONITOR for name in monitor)
        found |= is_monitor or key in ("tests", "openTelemetry")
        if is_monitor:
            _monitor(key, monitor, draft)
        elif key.lower() == "opentelemetry":
            draft.setting(key, "otlp", _otlp(monitor, draft, "otlp"))
        elif key == "tests":
            root.note(key, "names monitors to run; use `upbeat run` or `upbeat check --all`")
        else:
            root.note(key, "is no monitor; left out")
    if not found:
        raise SourceError("an openstatus.yaml is a mapping of monitors, each with a kind and a request")


def _monitor(key: str, monitor: Fields, draft: Draft) -> None:
    path = monitor.path
    request = monitor.fields("request") if monitor.has("request") else monitor
    kind = (monitor.text("kind", "type", "jobType") or ("tcp" if request.has("port") else "http")).lower()
    if kind not in ("http", "tcp", "dns"):
        monitor.note("kind", f"{kind!r} is no kind of beat; http is taken")
        kind = "http"
    slug = draft.slug("beat", key)
    interval_s = monitor.seconds("frequency", "periodicity")
    if interval_s is None:
        monitor.note("frequency", "is missing; 10m is taken, as OpenStatus does")
    timeout_ms = monitor.number("timeout")
    attempts = monitor.number("retry")
    spec: dict[str, Any] = {"slug": slug, "type": kind, "name": monitor.text("name") or key}
    spec |= draft.paced(
        path,
        interval_s=interval_s or INTERVAL_S,
        timeout_s=(timeout_ms or TIMEOUT_MS) / 1000,
        retries=(attempts or ATTEMPTS) - 1,
    )
    spec["description"] = monitor.text("description")[:4000]
    spec["enabled"] = monitor.flag("active", default=False)
    if not spec["enabled"] and "active" not in monitor:
        monitor.note("active", "is absent, which is inactive: the beat is not enabled")
    degraded_ms = monitor.number("degradedAfter", "degraded_at", "degradedAt")
    if degraded_ms and degraded_ms / 1000 <= spec["timeout"]:
        spec["degraded_after"] = degraded_ms / 1000
    elif degraded_ms:
        monitor.note("degradedAfter", f"{degraded_ms:g} ms is longer than the timeout; left out")
    if monitor.flag("public", default=False):
        monitor.note("public", "means nothing here: add a component for what the status page shows")
    spec["regions"] = [
        *dict.fromkeys(_region(region, monitor, draft) for region in monitor.items("regions"))
    ] or None
    if monitor.has("openTelemetry"):
        spec["otlp"] = _otlp(monitor.fields("openTelemetry"), draft, slug)
    (_http if kind == "http" else _tcp if kind == "tcp" else _dns)(spec, request, draft)
    assertions = _assertions(monitor, draft)
    if kind == "tcp" and assertions:
        monitor.note("assertions", "are evaluated by OpenStatus for http alone; left out")
    elif assertions:
        spec["assertions"] = assertions
        if kind == "http" and not any(one["of"] == "status" for one in assertions):
            assertions.append(ANY_STATUS)
            said = "say nothing of the status, which OpenStatus then does not look at: any will do here, too"
            monitor.note("assertions", said)
    request.rest()
    monitor.leave("request", "id", "$schema")
    monitor.rest()
    draft.beat(path, spec)


def _region(given: Any, monitor: Fields, draft: Draft) -> str:
    region = re.sub(r"^fly[-_]", "", str(given).lower())
    if region == "private":
        monitor.note("regions", "private is where your own probe is: rename the region `private` as you like")
    return draft.region(region)


def _otlp(given: Fields, draft: Draft, hint: str) -> dict[str, Any] | None:
    endpoint, headers = given.text("endpoint"), _headers(given, draft, f"{hint}-otlp")
    given.rest()
    if not re.match(r"https?://[^\s/?#]", endpoint):
        given.note("endpoint", "is no http or https URL; nothing is exported")
        return None
    return {
        "endpoint": re.sub(r"/v1/(metrics|traces)/?$", "", endpoint),
        "headers": headers,
        "names": "openstatus",
    }


def _headers(given: Fields, draft: Draft, hint: str) -> dict[str, str]:
    """A mapping, or a list of `{key, value}`."""
    if isinstance(listed := given.take("headers"), list):
        pairs = {
            str(one.get("key", "")): str(one.get("value", "")) for one in listed if isinstance(one, dict)
        }
    else:
        pairs = given.texts("headers")
    pairs.pop("", None)
    return draft.headers(given.at("headers"), pairs, hint)


def _http(spec: dict[str, Any], request: Fields, draft: Draft) -> None:
    spec["url"] = draft.url(request.at("url"), request.text("url", "uri"), spec["slug"], spec)
    spec["method"] = request.text("method").upper() or "GET"
    spec["headers"] = _headers(request, draft, spec["slug"])
    spec["body"] = request.text("body") or None
    spec["redirects"] = REDIRECTS if request.flag("followRedirects", default=True) else 0
    names = {name.lower() for name in spec["headers"]}
    if spec["method"] == "POST" and "content-type" not in names:
        spec["headers"]["Content-Type"] = "application/json"  # as OpenStatus sends it


def _tcp(spec: dict[str, Any], request: Fields, draft: Draft) -> None:
    host, port = request.text("host", "uri", "url"), request.number("port")
    if port is None:
        host, _, after = host.removeprefix("tcp://").rpartition(":")
        port = float(after) if after.isascii() and after.isdigit() else None
    spec["host"], spec["port"] = host.strip("[]"), int(port or 0)


def _dns(spec: dict[str, Any], request: Fields, draft: Draft) -> None:
    spec["host"] = request.text("host", "uri", "url", "domain")


def _assertions(monitor: Fields, draft: Draft) -> list[dict[str, Any]]:
    made = []
    for given in monitor.each("assertions"):
        said = re.sub(r"[^a-z]", "", given.text("kind", "type").lower())
        if one := _assertion(given, _SUBJECTS.get(said, said), draft):
            made.append(one)
        given.rest()
    return made


def _assertion(given: Fields, of: str, draft: Draft) -> dict[str, Any] | None:
    compare, target, said = (
        given.text("compare", "comparator").lower(),
        given.take("target"),
        given.text("target"),
    )
    made: dict[str, Any] = {"of": of}
    if of == "status":
        if compare in _NUMBERS and re.fullmatch(r"[0-9]{1,9}", said):
            return made | {_NUMBERS[compare]: int(said)}
    elif of in ("header", "body", "record", "json"):
        if of == "header":
            made["name"] = given.text("key", "name")
        if of == "record":
            made["type"] = given.text("key", "record").upper() or "A"
        if of == "json":
            made["path"] = given.text("path", "key") or "$"
        plain = compare.removeprefix("not_") if compare in ("not_contains", "not_empty") else compare
        if plain in _TEXTS:
            made |= {_TEXTS[plain]: True if plain == "empty" else target if of == "json" else said}
            if plain == "empty" and plain != compare:
                return made | {"empty": False}
            return made | ({"not": True} if plain != compare else {})
    draft.note(given.path, f"{of} {compare} {target!r} has no counterpart; left out")
    return None
