"""Gatus' `config.yaml`: endpoints, external endpoints and suites become beats, providers channels."""

import re
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from upbeat.imports.channels import GATUS, channel_of
from upbeat.imports.conditions import ConditionError, assertion_of, json_path
from upbeat.imports.draft import ANY_STATUS, Draft
from upbeat.imports.source import Fields, SourceError

INTERVAL_S: Final = 60.0  # Gatus' defaults
SUITE_INTERVAL_S: Final = 600.0
SUITE_TIMEOUT_S: Final = 300.0
TIMEOUT_S: Final = 10.0
FAILURES: Final = 3
SUCCESSES: Final = 2
_CHECKED: Final = ("endpoints", "services", "external-endpoints", "suites")
_OF_THE_SERVER: Final = re.findall(
    r"\S+",
    "storage web ui security debug concurrency disable-monitoring-lock metrics skip-invalid-config-update",
)
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


def take_gatus(source: Any, draft: Draft) -> None:
    """Take a whole configuration. Raises `SourceError`."""
    if not isinstance(source, dict) or not source.keys() & {*_CHECKED, "alerting", "storage", "web", "ui"}:
        raise SourceError("a Gatus configuration is a mapping with endpoints")
    root = Fields(source, "", draft.note).replaced(_with_references)
    providers = _Providers(root.fields("alerting"), draft)
    _connectivity(root.fields("connectivity"), draft)
    for endpoint in root.each("endpoints", "services"):
        _endpoint(endpoint, draft, providers)
    for endpoint in root.each("external-endpoints"):
        _external(endpoint, draft, providers)
    for suite in root.each("suites"):
        _suite(suite, draft, providers)
    root.note_given("is of Gatus' own server; left out", *_OF_THE_SERVER)
    said = "is not imported: write it under maintenances:, with rrule: FREQ=DAILY or WEEKLY"
    root.note_given(said, "maintenance")
    root.leave(*(key for key in root if key.startswith(("x-", "_"))))
    root.rest()


def _with_references(text: str) -> str:
    """Gatus replaces variables anywhere in its file; `$$` is one `$`."""
    parts = text.split("$$")
    return "$".join(_VARIABLE.sub(lambda found: f"${{env:{found[1] or found[2]}}}", part) for part in parts)


def _connectivity(given: Fields, draft: Draft) -> None:
    checker = given.fields("checker")
    if target := checker.text("target"):
        draft.reference(checker.at("target"), target)
    checker.rest("is not needed: it is tried after a run that the network failed")
    given.rest()


class _Providers:
    """Gatus' alerting providers, those of them that are channels here."""

    def __init__(self, alerting: Fields, draft: Draft) -> None:
        self._draft = draft
        self._slugs: dict[str, str] = {}
        self._defaults: dict[str, Fields] = {}
        for name in alerting:
            given = alerting.fields(name)
            default = given.fields("default-alert")
            _alert_rest(default)
            self._defaults[name] = default
            spec = self._channel(name, given)
            if spec is None:
                alerting.note(name, "no channel is of this kind; use a webhook, or add one by hand")
                continue
            spec["slug"] = draft.slug("channel", name)
            given.rest()
            if draft.channel(given.path, spec):
                self._slugs[name] = spec["slug"]

    def _channel(self, name: str, given: Fields) -> dict[str, Any] | None:
        def secret(key: str, hint: str) -> str:
            return self._draft.secret(given.at(key), given.text(key), name, hint)

        if (native := channel_of(GATUS, name, given, self._draft, name)) is not None:
            return native
        if name == "custom":
            given.note(
                "body", "is sent as Upbeat's own JSON; method, headers and body of Gatus' are left out"
            )
            given.leave("method", "headers", "placeholders", "client")
            return {"type": "webhook", "url": secret("url", "url")}
        if name != "email":
            return None
        sender, port = given.text("from"), given.number("port")
        made = {"type": "smtp", "host": given.text("host"), "port": int(port or 587), "sender": sender}
        made["tls"] = "tls" if port == 465 else "starttls"
        made["to"] = [one.strip() for one in given.text("to").split(",") if one.strip()]
        if username := given.text("username") or (sender if given.has("password") else ""):
            made |= {"username": username, "password": secret("password", "password")}
        return made

    def told(self, endpoint: Fields) -> dict[str, Any]:
        """`channels`, `description` and `quorum` of a beat, from its alerts."""
        channels, thresholds, said = list[str](), list[tuple[float, float]](), list[str]()
        for given in endpoint.each("alerts"):
            _alert_rest(given)
            name = given.text("type")
            alert = given.over(self._defaults.get(name))
            failures = alert.number("failure-threshold") or FAILURES
            successes = alert.number("success-threshold") or SUCCESSES
            text = alert.text("description")
            if not alert.flag("enabled", default=True):
                alert.note("enabled", "is false: nobody is told")
                continue
            if text:
                said.append(text)
            if name in self._slugs:
                thresholds.insert(len(channels), (failures, successes))
                channels.append(self._slugs[name])
            else:
                thresholds.append((failures, successes))
                said_of = name or "an alert without a type"
                self._draft.note(alert.path, f"{said_of} is no channel here; left out")
        made: dict[str, Any] = {
            "channels": [*dict.fromkeys(channels)],
            "description": "\n".join(dict.fromkeys(said))[:4000],
        }
        if thresholds:
            failures, successes = (min(max(int(one), 1), 20) for one in thresholds[0])
            made["quorum"] = {"consecutive": {"open": failures, "close": successes}}
            if len({*thresholds[: len(channels)]}) > 1:
                endpoint.note("alerts", "have several thresholds; those of the first are taken")
        return made


def _alert_rest(alert: Fields) -> None:
    alert.leave("type", "enabled", "failure-threshold", "success-threshold", "description")
    if not alert.flag("send-on-resolved", default=True):
        alert.note("send-on-resolved", "is not kept: a channel is told of recoveries, too")
    alert.rest()


def _named(given: Fields, draft: Draft) -> dict[str, Any]:
    name, group = given.text("name") or given.path, given.text("group")
    return {
        "slug": draft.slug("beat", group, name),
        "name": name[:200],
        "tags": draft.tags(
            given.path, group, *(f"{key}:{value}" for key, value in given.texts("extra-labels").items())
        ),
        "enabled": given.flag("enabled", default=True),
    }


def _endpoint(endpoint: Fields, draft: Draft, providers: _Providers) -> None:
    spec = _named(endpoint, draft)
    client = endpoint.fields("client")
    timeout_s = client.seconds("timeout")
    spec |= draft.paced(
        endpoint.path, interval_s=endpoint.seconds("interval") or INTERVAL_S, timeout_s=timeout_s
    )
    spec |= providers.told(endpoint)
    if not _target(endpoint, client, spec, draft):
        endpoint.leave(*endpoint)
        return
    spec["assertions"] = _assertions(endpoint, spec, draft)
    client.rest()
    endpoint.rest()
    draft.beat(endpoint.path, spec)


def _target(endpoint: Fields, client: Fields, spec: dict[str, Any], draft: Draft) -> bool:
    """The type of the beat, and what it asks. False when there is none."""
    url = endpoint.text("url")
    if endpoint.has("dns"):
        _dns(endpoint, url, spec, draft)
        return True
    scheme, _, after = url.partition("://")
    scheme = scheme.lower()
    if scheme in ("http", "https") or url.startswith("${env:"):
        _http(endpoint, client, spec, draft)
        return True
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = after, None
    if scheme == "icmp":
        spec |= {"type": "icmp", "host": host or after, "packets": 1}
    elif scheme in ("tls", "starttls"):
        spec |= {"type": "tls", "host": host, "port": port or (25 if scheme == "starttls" else 443)}
        spec |= {"starttls": "smtp"} if scheme == "starttls" else {}
        spec |= _trust(client, draft, spec["slug"])
    elif scheme in ("tcp", "ssh"):
        spec |= {"type": "tcp", "host": host, "port": port or (22 if scheme == "ssh" else 0)}
        if scheme == "ssh":
            spec["preset"] = "ssh"
            said = "nobody is logged in and no command is run; that SSH answers is checked"
            endpoint.note_given(said, "ssh")
        elif body := endpoint.text("body"):
            spec["steps"] = [{"send": body, "matches": "(?s)."}]
    else:
        said = f"no beat is of {scheme}://" if after else f"{url!r} has no scheme of a beat"
        endpoint.note("url", f"{said}; not imported")
        return False
    return True


def _dns(endpoint: Fields, url: str, spec: dict[str, Any], draft: Draft) -> None:
    dns = endpoint.fields("dns")
    spec |= {"type": "dns", "host": dns.text("query-name").rstrip(".") or "."}
    spec["record"] = dns.text("query-type").upper() or "A"
    resolver = re.sub(r"^(tcp|udp)://", "", url)
    if url.startswith("tcp://"):
        spec["protocol"] = "tcp"
    dns.rest()
    draft.resolver(endpoint.at("url"), resolver, spec)


def _http(endpoint: Fields, client: Fields, spec: dict[str, Any], draft: Draft) -> None:
    slug = spec["slug"]
    spec |= {"type": "http", "method": endpoint.text("method").upper() or "GET"}
    spec["url"] = draft.url(endpoint.at("url"), endpoint.text("url"), slug, spec)
    spec["headers"] = draft.headers(endpoint.at("headers"), endpoint.texts("headers"), slug)
    body = endpoint.text("body")
    for name in ("name", "group", "url"):
        body = body.replace(f"[ENDPOINT_{name.upper()}]", endpoint.text(name))
    if re.search(r"\[(LOCAL_ADDRESS|RANDOM_STRING_\d+)\]", body):
        endpoint.note("body", "has a placeholder that is not replaced here")
    if endpoint.flag("graphql", default=False):
        spec["json"] = {"query": body}
    elif body:
        spec["body"] = body
    spec["redirects"] = 0 if client.flag("ignore-redirect", default=False) else 10
    spec |= _trust(client, draft, slug)
    spec["proxy"] = draft.proxy(client.at("proxy-url"), client.text("proxy-url"), slug)
    if client.has("oauth2"):
        oauth2 = client.fields("oauth2")
        spec["auth"] = draft.oauth2(oauth2, "client-secret", "token-url", "client-id", slug)
        oauth2.rest()
    said = "names are asked of the system's resolver; a dns beat asks another"
    client.note_given(said, "dns-resolver")


def _trust(client: Fields, draft: Draft, slug: str) -> dict[str, Any]:
    """What a client says of TLS and addresses."""
    made: dict[str, Any] = {}
    if client.flag("insecure", default=False):
        made["verify"] = False
    network = client.text("network")
    if network in ("ip4", "ip6"):
        made["ip"] = int(network[2])
    tls = client.fields("tls")
    certificate, key = tls.text("certificate-file"), tls.text("private-key-file")
    if certificate and key:
        made |= {"certificate": f"${{file:{certificate}}}", "key": f"${{file:{key}}}"}
        if not (certificate.startswith("/") and key.startswith("/")):
            draft.note(tls.path, "names files relative to Gatus' folder; write where they are")
            made = {name: value for name, value in made.items() if name not in ("certificate", "key")}
    tls.leave("renegotiation")
    tls.rest()
    return made


def _assertions(endpoint: Fields, spec: dict[str, Any], draft: Draft) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    place, is_connected = endpoint.at("conditions"), False
    for number, condition in enumerate(endpoint.items("conditions")):
        text = str(condition)
        try:
            assertion = assertion_of(text, spec["type"], spec.get("record", "A"))
        except ConditionError as wrong:
            draft.note(f"{place}[{number}]", f"{text!r} {wrong}; left out")
            continue
        if any(sign in str(assertion) for sign in ("${env:", "${capture:")):
            draft.note(f"{place}[{number}]", f"{text!r} compares with a variable; left out")
        elif assertion is None:
            is_connected = True
        elif (
            spec["type"] == "tls"
            and assertion["of"] == "certificate.leaf_days_left"
            and assertion.keys() & {"gt", "ge"}
        ):
            days: float = assertion["gt" if "gt" in assertion else "ge"]
            spec["expires_within"] = {"critical": days * 86400, "warning": max(days, 21) * 86400}
        elif assertion["of"] == "certificate.leaf_days_left" and spec["type"] == "tcp":
            draft.note(f"{place}[{number}]", f"{text!r} needs TLS; left out")
        else:
            made.append(assertion)
    if spec["type"] == "tls" and "expires_within" not in spec:
        draft.note(
            place, "say nothing of the certificate's end, of which a tls beat tells 21 and 7 days before"
        )
    if spec["type"] == "http" and not any(one["of"] == "status" for one in made):
        made.append(ANY_STATUS)
        if not is_connected:
            draft.note(
                place, "say nothing of the status, which Gatus then does not look at: any will do here, too"
            )
    return made


def _external(endpoint: Fields, draft: Draft, providers: _Providers) -> None:
    spec = _named(endpoint, draft) | providers.told(endpoint)
    consecutive = spec.pop("quorum", None)
    every_s = endpoint.fields("heartbeat").seconds("interval")
    if every_s:
        spec |= {"type": "heartbeat", "every": every_s, "grace": 0}
        endpoint.note("token", "is not used: the heartbeat has a URL of its own to be pinged")
    else:
        spec["type"] = "external"
        endpoint.note("token", "is not used: report with a token of Upbeat, by POST .../beats/{slug}/report")
    if consecutive and consecutive["consecutive"]["open"] > 1:
        endpoint.note("alerts", "have thresholds; what is reported counts at once")
    endpoint.leave("token", "heartbeat")
    endpoint.rest()
    draft.beat(endpoint.path, spec)


# ---- suites


def _suite(suite: Fields, draft: Draft, providers: _Providers) -> None:
    """A suite of http endpoints is one beat with steps."""
    spec = _named(suite, draft) | {"type": "http", "redirects": 10}
    spec |= draft.paced(
        suite.path,
        interval_s=suite.seconds("interval") or SUITE_INTERVAL_S,
        timeout_s=suite.seconds("timeout") or SUITE_TIMEOUT_S,
    )
    context, known, steps = suite.texts("context"), set[str](), list[dict[str, Any]]()
    told: dict[str, Any] = {"channels": [], "description": ""}
    for written in suite.each("endpoints"):
        endpoint = written.replaced(partial(_in_context, context, known, written.path, draft))
        if not endpoint.flag("enabled", default=True):
            endpoint.note("enabled", "is false: the step is left out")
            continue
        step: dict[str, Any] = {"slug": spec["slug"], "type": "http"}
        client = endpoint.fields("client")
        _http(endpoint, client, step, draft)
        step["assertions"] = _assertions(endpoint, step, draft)
        step["always"] = endpoint.flag("always-run", default=False)
        step["capture"] = _stored(endpoint, draft)
        name = re.sub(r"[^a-z0-9]+", "-", endpoint.text("name").lower()).strip("-")[:50] or "step"
        is_new = all(one["name"] != name for one in steps)
        step["name"] = name if is_new else f"{name}-{len(steps) + 1}"
        for shared in ("verify", "ip", "proxy", "auth", "certificate", "key"):
            if step.get(shared) is not None and spec.setdefault(shared, step[shared]) != step[shared]:
                draft.note(
                    endpoint.path,
                    f"has {shared} of its own, which all steps share; that of the first is taken",
                )
        for key in ("slug", "type", "redirects", "verify", "ip", "proxy", "auth", "certificate", "key"):
            step.pop(key, None)
        steps.append({key: value for key, value in step.items() if value})
        known |= step["capture"].keys()
        alerts = providers.told(endpoint)
        told = told | alerts | {"channels": [*dict.fromkeys(told["channels"] + alerts["channels"])]}
        client.rest()
        endpoint.rest()
    suite.rest()
    draft.beat(suite.path, spec | told | {"steps": steps})


def _stored(endpoint: Fields, draft: Draft) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in endpoint.texts("store").items():
        try:
            if not value.startswith("[BODY]"):
                raise ConditionError("is not captured")
            made[name.replace("-", "_")] = {"json": json_path(value[6:])}
        except ConditionError as wrong:
            draft.note(f"{endpoint.at('store')}.{name}", f"{value!r} {wrong}; left out")
    return made


def _in_context(context: dict[str, str], known: set[str], path: str, draft: Draft, text: str) -> str:
    """`[CONTEXT].name` as what it is: captured before, or written in the suite."""

    def filled(match: re.Match[str]) -> str:
        name = match[1].replace("-", "_")
        if name in known:
            return f"${{capture:{name}}}"
        if match[1] not in context:
            draft.note(path, f"{match[0]} is nothing that was stored before")
        return context.get(match[1], "")

    return re.sub(r"\[CONTEXT\]\.([\w-]+)", filled, text)
