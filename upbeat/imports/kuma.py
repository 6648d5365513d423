"""Uptime Kuma's JSON backup, or its monitors as its API lists them: monitors become beats, notifications channels."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from upbeat.imports.channels import KUMA, channel_of
from upbeat.imports.conditions import OPERATORS, one_of, typed
from upbeat.imports.draft import MOST_TIMEOUT_S, Draft
from upbeat.imports.source import Fields, SourceError

INTERVAL_S: Final = 60.0
OK_CODES: Final = ["200-299"]  # Kuma's default, and what http needs here
CERTIFICATE_DAYS: Final = 21  # when Kuma first warns
_TYPES: Final = {"xml": "text/xml; charset=utf-8", "form": "application/x-www-form-urlencoded"}
_SIMPLE_PATH: Final = re.compile(r"\$?\.?([A-Za-z_]\w*|\[\d+\])(\.[A-Za-z_]\w*|\[\d+\])*")
_DATABASES: Final = {
    "postgres": ("postgres", 5432),
    "redis": ("redis", 6379),
    "mysql": (None, 3306),
    "mongodb": (None, 27017),
}
_SWITCHES: Final = (
    "cacheBust",
    "domainExpiryNotification",
    "retryOnlyOnStatusCodeFailure",
    "retry_only_on_status_code_failure",
)
"""What an http monitor may have switched on without a counterpart."""
_BY_ITSELF: Final = re.findall(
    r"\w+",
    """
    id pathName childrenIDs weight forceInactive maintenance includeSensitiveData screenshot
    dns_last_result path user_id created_date active notificationIDList notification_list
    accepted_statuscodes accepted_statuscodes_json ignoreTls expiryNotification timeout method
    maxredirects packetSize httpBodyEncoding authMethod resendInterval retryInterval
    gamedigGivenPortOnly dns_resolve_type dns_resolve_server jsonPathOperator jsonPath expectedValue
    invertKeyword proxyId grpcEnableTls kafkaProducerSsl kafkaProducerAllowAutoTopicCreation
    kafkaProducerSaslOptions kafkaProducerBrokers docker_host mqttSuccessMessage mqttCheckType
    rabbitmqNodes conditions cacheBust ping_numeric ping_count ping_per_request_timeout ipFamily
    ip_family snmpVersion snmpOid smtpSecurity oauth_auth_method remote_browser
    retryOnlyOnStatusCodeFailure retry_only_on_status_code_failure manual_status url port hostname
    domainExpiryNotification saveResponse saveErrorResponse responseMaxLength save_response
    """,
)
"""Keys that every monitor has, whether or not they mean anything for its type: those that do are taken by it."""


def take_kuma(source: Any, draft: Draft) -> None:
    """Take a whole backup. Raises `SourceError`."""
    if isinstance(source, list):
        source = {"monitorList": source}
    if not isinstance(source, dict) or not any(key in source for key in ("monitorList", "monitors")):
        raise SourceError("a backup of Uptime Kuma has a monitorList")
    root = Fields(source, "", draft.note)
    channels = {
        str(given.take("id")): slug
        for given in _listed(root, "notificationList", "notifications")
        if (slug := _channel(given, draft))
    }
    proxies = {str(given.take("id")): given for given in _listed(root, "proxyList", "proxies")}
    monitors = [*_listed(root, "monitorList", "monitors")]
    groups = {str(one.take("id")): one for one in monitors if one.text("type") == "group"}
    for monitor in monitors:
        _monitor(monitor, draft, channels, proxies, groups)
    root.leave("version")
    root.note_given("is not imported: write it under maintenances:", "maintenanceList")
    without = ("statusPageList", "settings", "tags", "dockerHostList", "apiKeyList")
    root.note_given("has no counterpart here; left out", *without)
    root.rest()


def _listed(root: Fields, *keys: str) -> list[Fields]:
    """A list, or a mapping by id as Kuma's API gives it."""
    value = root.take(*keys)
    key = next((key for key in keys if root.has(key)), keys[0])
    if isinstance(value, dict):
        inner = root.fields(key)
        return [inner.fields(name) for name in inner]
    return [*root.each(*keys)]


def _monitor(
    monitor: Fields,
    draft: Draft,
    channels: dict[str, str],
    proxies: dict[str, Fields],
    groups: dict[str, Fields],
) -> None:
    kind, name = monitor.text("type") or "http", monitor.text("name") or monitor.path
    above = [*_above(monitor, groups)]
    if kind == "group":
        draft.note(
            monitor.path,
            f"the group {name!r} is kept as a tag of its monitors; for one outage write it under groups:",
        )
        return
    if monitor.flag("upsideDown", default=False):
        monitor.note("upsideDown", f"{name!r} is well when it fails, which has no counterpart; not imported")
        return
    slug = draft.slug("beat", name)
    spec: dict[str, Any] = {
        "slug": slug,
        "name": name[:200],
        "description": monitor.text("description")[:4000],
    }
    spec["enabled"] = all(one.flag("active", default=True) for one in (monitor, *above))
    if monitor.flag("forceInactive", default=False):
        spec["enabled"] = False
    names = [group.text("name") for group in reversed(above)]
    names += (":".join(filter(None, (tag.text("name"), tag.text("value")))) for tag in monitor.each("tags"))
    spec["tags"] = draft.tags(monitor.path, *names)
    told = monitor.take("notificationIDList")
    ids = [key for key, is_told in told.items() if is_told] if isinstance(told, dict) else told
    spec["channels"] = [
        channels[str(one)] for one in (ids if isinstance(ids, list) else ()) if str(one) in channels
    ]
    take = _KINDS.get(kind)
    if take is None:
        monitor.note("type", f"no beat is of the kind {kind!r}; {name!r} is not imported")
        return
    interval_s, tries = monitor.number("interval") or INTERVAL_S, int(monitor.number("maxretries") or 0)
    if kind not in ("push", "manual"):
        timeout_s = monitor.number("timeout") or min(interval_s * 0.8, MOST_TIMEOUT_S)
        spec |= draft.paced(monitor.path, interval_s=interval_s, timeout_s=min(timeout_s, interval_s))
        retry_s = monitor.number("retryInterval")
        if tries and retry_s and retry_s != interval_s:
            monitor.note(
                "retryInterval", f"{retry_s:g} s has no counterpart: what is bad is confirmed at once"
            )
        if tries > 19:
            monitor.note("maxretries", f"{tries} is more than can be asked for; 19 is taken")
        spec["quorum"] = {"consecutive": {"open": min(tries, 19) + 1, "close": 1}}
    else:
        spec |= {"every": interval_s, "grace": tries * (monitor.number("retryInterval") or interval_s)}
    if monitor.number("resendInterval"):
        monitor.note("resendInterval", "has no counterpart: what is told is told once")
    for key in ("ipFamily", "ip_family"):
        if monitor.text(key) in ("ipv4", "ipv6"):
            spec["ip"] = int(monitor.text(key)[3])
    take(spec, monitor, draft)
    if spec["type"] == "http" and (proxy := proxies.get(str(monitor.take("proxyId")))):
        spec["proxy"] = _proxy(proxy, slug, draft)
    if spec["type"] == "http":
        monitor.note_on("has no counterpart; left out", *_SWITCHES)
    monitor.leave(*_BY_ITSELF)
    monitor.rest()
    draft.beat(monitor.path, spec)


def _above(monitor: Fields, groups: dict[str, Fields]) -> Iterator[Fields]:
    """The groups a monitor is in, the nearest first."""
    seen = set[str]()
    while (group := groups.get(key := str(monitor.take("parent")))) and key not in seen:
        seen.add(key)
        monitor = group
        yield group


# ---- kinds


def _http(spec: dict[str, Any], monitor: Fields, draft: Draft) -> None:
    slug = spec["slug"]
    spec |= {"type": "http", "method": monitor.text("method").upper() or "GET"}
    spec["url"] = draft.url(monitor.at("url"), monitor.text("url"), slug, spec)
    spec["headers"] = _headers(monitor, slug, draft)
    redirects = monitor.number("maxredirects")
    spec["redirects"] = 10 if redirects is None else min(max(int(redirects), 0), 10)
    if redirects is not None and redirects != spec["redirects"]:
        monitor.note("maxredirects", f"{redirects:g} is more than can be asked for; 10 is taken")
    if monitor.flag("ignoreTls", default=False):
        spec["verify"] = False
    _body(spec, monitor)
    _authorize(spec, monitor, draft)
    spec["assertions"] = [*_codes(monitor, draft)]
    keyword = monitor.text("keyword")
    if keyword and monitor.text("type") == "keyword":  # left over in one of another type
        negated = {"not": True} if monitor.flag("invertKeyword", default=False) else {}
        spec["assertions"].append({"of": "body", "contains": keyword} | negated)
    if monitor.flag("expiryNotification", default=False) and spec["url"].startswith("https://"):
        spec["assertions"].append(
            {"of": "certificate.days_left", "ge": CERTIFICATE_DAYS, "severity": "warning"}
        )


def _headers(monitor: Fields, slug: str, draft: Draft) -> dict[str, str]:
    given = monitor.take("headers")
    if isinstance(given, str) and given.strip():
        with contextlib.suppress(ValueError, RecursionError):
            given = json.loads(given)
        if not isinstance(given, dict):
            monitor.note("headers", "is no JSON object; left out")
    pairs = given.items() if isinstance(given, dict) else ()
    return draft.headers(monitor.at("headers"), {str(name): str(value) for name, value in pairs}, slug)


def _body(spec: dict[str, Any], monitor: Fields) -> None:
    body, encoding = monitor.text("body"), monitor.text("httpBodyEncoding")
    if body:
        spec["body"] = body
        if all(name.lower() != "content-type" for name in spec["headers"]):
            spec["headers"]["Content-Type"] = _TYPES.get(encoding, "application/json")


def _authorize(spec: dict[str, Any], monitor: Fields, draft: Draft) -> None:
    slug, method = spec["slug"], monitor.text("authMethod")
    user, password = monitor.text("basic_auth_user"), monitor.text("basic_auth_pass")
    if method in ("basic", "") and user:
        given = draft.secret(monitor.at("basic_auth_pass"), password, slug, "password")
        spec["auth"] = {"basic": {"username": user, "password": given}}
    elif method == "oauth2-cc":
        spec["auth"] = draft.oauth2(
            monitor, "oauth_client_secret", "oauth_token_url", "oauth_client_id", slug
        )
        spec["auth"]["oauth2"] |= {
            "scope": monitor.text("oauth_scopes") or None,
            "audience": monitor.text("oauth_audience") or None,
            "send": "body" if monitor.text("oauth_auth_method") == "client_secret_post" else "header",
        }
    elif method == "mtls":
        key = draft.secret(monitor.at("tlsKey"), monitor.text("tlsKey"), slug, "tls-key")
        spec |= {"certificate": monitor.text("tlsCert") or None, "key": key or None}
        spec["ca"] = monitor.text("tlsCa") or None
    elif method == "ntlm":
        monitor.note("authMethod", "ntlm has no counterpart; the beat asks without credentials")
    # What belongs to a way that is not chosen is left over in Kuma's database.
    monitor.leave(
        "basic_auth_user", "basic_auth_pass", "authWorkstation", "authDomain", "tlsCa", "tlsCert", "tlsKey"
    )
    monitor.leave(*(key for key in monitor if key.startswith("oauth_")))


def _codes(monitor: Fields, draft: Draft) -> list[dict[str, Any]]:
    """Ranges such as 200-299, as one `between` and the gaps in it."""
    given = [str(one) for one in monitor.items("accepted_statuscodes")]
    if not given and (text := monitor.text("accepted_statuscodes_json")):
        given = re.findall(r"\d+(?:-\d+)?", text)
    ranges = []
    for one in given:
        if match := re.fullmatch(r"(\d{3})(?:-(\d{3}))?", one.strip()):
            ranges.append((int(match[1]), int(match[2] or match[1])))
        else:
            monitor.note("accepted_statuscodes", f"{one!r} is no status; left out")
    if not ranges or given == OK_CODES:
        return []
    if len({*ranges}) == 1 and ranges[0][0] == ranges[0][1]:
        return [{"of": "status", "eq": ranges[0][0]}]
    ranges.sort()
    made: list[dict[str, Any]] = [
        {"of": "status", "between": [ranges[0][0], max(high for _, high in ranges)]}
    ]
    reached = ranges[0][1]
    for low, high in ranges[1:]:
        if low > reached + 1:  # what lies between two ranges is not accepted
            made.append({"of": "status", "between": [reached + 1, low - 1], "not": True})
        reached = max(reached, high)
    return made


def _json(spec: dict[str, Any], monitor: Fields, draft: Draft) -> None:
    _http(spec, monitor, draft)
    path, expected = monitor.text("jsonPath") or "$", monitor.text("expectedValue")
    operator = monitor.text("jsonPathOperator") or "=="
    said = f"{path!r} {operator} {expected!r}"
    if path != "$" and not _SIMPLE_PATH.fullmatch(path):
        monitor.note("jsonPath", f"{said} is JSONata that has no counterpart; left out")
        return
    bare = path.removeprefix("$").removeprefix(".")
    made: dict[str, Any] = {"of": "json", "path": f"${bare}" if bare[:1] in ("[", "") else f"$.{bare}"}
    values = typed(expected)
    if operator in ("<", "<=", ">", ">=") and isinstance(values[0], int | float):
        made[OPERATORS[operator]] = values[0]
    elif operator == "contains":
        made["contains"] = expected
    elif operator in ("==", "!="):
        made |= one_of(OPERATORS[operator], values)
    else:
        monitor.note("jsonPathOperator", f"{said} has no counterpart; left out")
        return
    spec["assertions"].append(made)


def _port(spec: dict[str, Any], monitor: Fields, draft: Draft) -> None:
    spec |= {"type": "tcp", "host": monitor.text("hostname"), "port": int(monitor.number("port") or 0)}


def _ping(spec: dict[str, Any], monitor: Fields, draft: Draft) -> None:
    spec |= {
        "type": "icmp",
        "host": monitor.text("hostname"),
        "packets": min(int(monitor.number("ping_count") or 1), 20),
    }
    if size_bytes := monitor.number("packetSize"):
        spec["size"] = min(max(int(size_bytes), 16), 8972)


def _dns(spec: dict[str, Any], monitor: Fields, draft: Draft) -> None:
    spec |= {
        "type": "dns",
        "host": monitor.text("hostname"),
        "record": monitor.text("dns_resolve_type").upper() or "A",
    }
    port = int(monitor.number("port") or 53)
    servers = [one.strip() for one in monitor.text("dns_resolve_server").split(",") if one.strip()]
    if servers:
        draft.resolver(
            monitor.at("dns_resolve_server"),
            (f"[{servers[0].strip('[]')}]" if ":" in servers[0] else servers[0])
            + (f":{port}" if port != 53 else ""),
            spec,
        )
    if len(servers) > 1:
        monitor.note("dns_resolve_server", "names several, one of which must answer; the first is asked")
    if monitor.take("conditions") not in (None, "", "[]", []):
        monitor.note("conditions", "are left out; assert `of: record` instead")


def _push(spec: dict[str, Any], monitor: Fields, draft: Draft) -> None:
    spec["type"] = "heartbeat"
    monitor.note("pushToken", "is not used: the heartbeat has a URL of its own to be pinged")
    monitor.leave("pushToken")


def _manual(spec: dict[str, Any], monitor: Fields, draft: Draft) -> None:
    spec["type"] = "external"
    del spec["every"], spec["grace"]


def _database(spec: dict[str, Any], monitor: Fields, draft: Draft) -> None:
    kind = monitor.text("type")
    preset, usual = _DATABASES[kind]
    try:
        parts = urlsplit(monitor.text("databaseConnectionString"))
        host, port = parts.hostname or "", parts.port or usual
    except ValueError:
        host, port = "", usual
    spec |= {"type": "tcp", "host": host, "port": port, "preset": preset}
    monitor.note("databaseQuery", f"nobody logs in and nothing is queried: that {kind} answers is checked")
    monitor.leave("databaseConnectionString", "databaseQuery")


def _mail(spec: dict[str, Any], monitor: Fields, draft: Draft) -> None:
    security = monitor.text("smtpSecurity")
    _port(spec, monitor, draft)
    spec["preset"] = "smtp"
    spec |= {"tls": True} if security == "secure" else {"starttls": "smtp"} if security == "starttls" else {}


_KINDS: Final = {
    "http": _http,
    "keyword": _http,
    "json-query": _json,
    "port": _port,
    "ping": _ping,
    "tailscale-ping": _ping,
    "dns": _dns,
    "push": _push,
    "manual": _manual,
    "smtp": _mail,
    **dict.fromkeys(_DATABASES, _database),
}


# ---- notifications and proxies


def _channel(given: Fields, draft: Draft) -> str | None:
    """The slug of the channel a notification becomes; None where there is none of its kind."""
    config = given
    if isinstance(raw := given.take("config"), str):
        try:
            config = Fields(json.loads(raw), given.at("config"), draft.note)
        except ValueError:
            given.note("config", "is no JSON; left out")
            return None
    elif isinstance(raw, dict):
        config = given.fields("config")
    name, kind = given.text("name") or config.text("name"), config.text("type")
    if not given.flag("active", default=True):
        draft.note(given.path, f"the notification {name!r} is not active; left out")
        return None
    spec: dict[str, Any] = {"slug": draft.slug("channel", name or kind), "name": name[:200] or None}
    hint = spec["slug"]
    if (native := channel_of(KUMA, kind, config, draft, hint)) is not None:
        spec |= native
        if kind == "webhook":
            draft.note(config.path, f"{name!r} is sent Upbeat's own JSON, not Kuma's")
    elif kind == "smtp":
        to = f"{config.text('smtpTo')},{config.text('smtpCC')},{config.text('smtpBCC')}"
        spec |= {
            "type": "smtp",
            "host": config.text("smtpHost"),
            "port": int(config.number("smtpPort") or 587),
        }
        spec["tls"] = "tls" if config.flag("smtpSecure", default=False) else "starttls"
        spec["sender"] = _mailbox(config.text("smtpFrom"))
        spec["to"] = [_mailbox(one) for one in to.split(",") if one.strip()]
        if password := config.text("smtpPassword"):
            spec["username"] = config.text("smtpUsername")
            spec["password"] = draft.secret(config.at("smtpPassword"), password, hint, "password")
    else:
        draft.note(given.path, f"no channel is of the kind {kind!r}; {name!r} is left out")
        return None
    config.leave("id", "name", "type", "active", "userId", "isDefault", "applyExisting")
    config.rest()
    spec = {key: value for key, value in spec.items() if value is not None}
    return hint if draft.channel(given.path, spec) else None


def _mailbox(text: str) -> str:
    return str((re.findall(r"<([^<>]+)>", text) or [text])[0]).strip()


def _proxy(given: Fields, slug: str, draft: Draft) -> str | None:
    protocol, host, port = given.text("protocol") or "http", given.text("host"), given.number("port")
    if protocol != "http" or not host or not port or not given.flag("active", default=True):
        draft.note(given.path, f"no beat goes through this {protocol} proxy; left out")
        return None
    login = ""
    if given.flag("auth", default=False):
        password = draft.secret(given.at("password"), given.text("password"), slug, "proxy-password")
        login = f"{given.text('username')}:{password}@"
    return f"http://{login}{host}:{int(port)}"
