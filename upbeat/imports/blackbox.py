"""blackbox_exporter's `blackbox.yml`: each module with each target that Prometheus probes by it becomes a beat."""

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from upbeat.imports.draft import Draft
from upbeat.imports.source import Fields, SourceError

INTERVAL_S: Final = 60.0  # Prometheus' defaults
SCRAPE_TIMEOUT_S: Final = 10.0
PLACEHOLDER: Final = "target.invalid"
_BOUND: Final = re.compile(r"^https?://", re.IGNORECASE)
_STARTTLS: Final = (  # by what is said before it, the first that fits
    (re.compile("AAAACATSFi8"), "postgres"),  # its SSLRequest, in base64
    (re.compile(r"(?i)\b(ehlo|helo|smtp)\b"), "smtp"),
    (re.compile(r"(?i)<starttls"), "xmpp"),
    (re.compile(r"(?i)\bstls\b|\+ok"), "pop3"),
    (re.compile(r"(?i)imap|\bok\b|\S+ starttls"), "imap"),
)


@dataclass(frozen=True, slots=True)
class _Target:
    """What Prometheus hands to a module."""

    path: str
    job: str
    target: str
    interval_s: float
    timeout_s: float
    labels: tuple[str, ...] = ()


def take_blackbox(source: Any, draft: Draft, targets: Any = None) -> None:
    """Every module, with the targets of a Prometheus configuration when it is given. Raises `SourceError`."""
    if not isinstance(source, dict) or not isinstance(source.get("modules"), dict):
        raise SourceError("a blackbox.yml is a mapping with modules")
    root = Fields(source, "", draft.note)
    modules = root.fields("modules")
    root.rest()
    probed: dict[str, list[_Target]] = {}
    for name, found in _targets(targets, draft):
        probed.setdefault(name, []).append(found)
    for name in modules:
        asked: list[_Target | None] = [*probed.pop(name, [])]
        for target in asked or [None]:
            _beat(name, modules.fields(name), target, draft)
    for name, lost in probed.items():
        draft.note(lost[0].path, f"module {name!r} is not in the file; {len(lost)} targets left out")


def _targets(source: Any, draft: Draft) -> Iterator[tuple[str, _Target]]:
    """(module, target) of every scrape job that goes through the exporter."""
    if source is None:
        return
    # Its own places are not those of the file with the modules.
    root = Fields(source, "targets", draft.note)
    common = root.fields("global")
    interval_s = common.seconds("scrape_interval") or INTERVAL_S
    timeout_s = common.seconds("scrape_timeout") or SCRAPE_TIMEOUT_S
    for job in root.each("scrape_configs"):
        modules = job.fields("params").items("module")
        if not modules and job.text("metrics_path") != "/probe":
            continue
        name = job.text("job_name")
        every_s = job.seconds("scrape_interval") or interval_s
        within_s = job.seconds("scrape_timeout") or min(timeout_s, every_s)
        found = False
        for group in job.each("static_configs"):
            labels = tuple(f"{key}:{value}" for key, value in group.texts("labels").items())
            for target in group.items("targets"):
                found = True
                yield (
                    str(modules[0] if modules else "http_2xx"),
                    _Target(job.path, name, str(target), every_s, within_s, labels),
                )
        if len(modules) > 1:
            job.note("params", f"names several modules; {modules[0]} is taken")
        for key in job:
            if key.endswith("_sd_configs"):
                job.note(key, "finds targets while it runs; only static_configs are imported")
            elif not found and key == "relabel_configs":
                job.note(key, "is not evaluated")


def _beat(name: str, given: Fields, target: _Target | None, draft: Draft) -> None:
    prober = given.text("prober") or next(
        (key for key in ("http", "tcp", "dns", "icmp") if given.has(key)), "http"
    )
    options = given.fields(prober)
    place = target.path if target else given.path
    asked = target.target if target else ""
    slug = draft.slug("beat", target.job if target else "", name, _BOUND.sub("", asked))
    spec: dict[str, Any] = {"slug": slug, "type": prober, "name": f"{name} {asked}".strip()[:200]}
    if target:
        spec["tags"] = draft.tags(place, target.job, *target.labels)
    else:
        spec["enabled"] = False
        draft.note(
            place,
            f"has no target here: write it in the place of {PLACEHOLDER} and enable the beat, or give --targets",
        )
    timeout_s = given.seconds("timeout")
    within_s = target.timeout_s if target else SCRAPE_TIMEOUT_S
    spec |= draft.paced(
        place,
        interval_s=target.interval_s if target else INTERVAL_S,
        timeout_s=min(timeout_s, within_s) if timeout_s and target else timeout_s or within_s,
    )
    take = {"http": _http, "tcp": _tcp, "dns": _dns, "icmp": _icmp}.get(prober)
    if take is None:
        given.note("prober", f"no beat is of {prober!r}; not imported")
        return
    take(spec, options, asked or PLACEHOLDER, draft)
    options.rest()
    given.leave(prober)
    given.rest()
    draft.beat(place, spec)


def _family(options: Fields, spec: dict[str, Any]) -> None:
    preferred = options.text("preferred_ip_protocol") or "ip6"
    if not options.flag("ip_protocol_fallback", default=True):
        spec["ip"] = 4 if preferred == "ip4" else 6
    elif preferred == "ip6":
        said = "IPv6 first, then IPv4, is the other way round here; write `ip: 6` for IPv6 alone"
        options.note("preferred_ip_protocol", said)
    options.note_given("has no counterpart; the system chooses", "source_ip_address")


def _trust(options: Fields, spec: dict[str, Any], draft: Draft) -> None:
    tls = options.fields("tls_config")
    if tls.flag("insecure_skip_verify", default=False):
        spec["verify"] = False
    for key, file in (("ca", "ca_file"), ("certificate", "cert_file"), ("key", "key_file")):
        if path := tls.text(file):
            spec[key] = _from_file(tls, file, path, draft)
    if pem := tls.text("ca"):
        spec["ca"] = pem
    if certificate := tls.text("cert"):
        spec["certificate"] = certificate
        spec["key"] = draft.secret(tls.at("key"), tls.text("key"), spec["slug"], "tls-key")
    spec["server_name"] = tls.text("server_name") or None
    if version := tls.text("min_version"):
        spec["min_version"] = {"TLS10": "1.0", "TLS11": "1.1", "TLS12": "1.2", "TLS13": "1.3"}.get(
            version, "1.2"
        )
    tls.rest()


def _from_file(holder: Fields, key: str, path: str, draft: Draft) -> str | None:
    if path.startswith("/"):
        return f"${{file:{path}}}"
    draft.note(
        holder.at(key),
        f"{path} is relative to the exporter's folder; write ${{file:/...}} with its whole path",
    )
    return None


def _secret(holder: Fields, name: str, slug: str, draft: Draft) -> str | None:
    """A value that is written out, or in the file that `name_file` names."""
    if path := holder.text(f"{name}_file"):
        return _from_file(holder, f"{name}_file", path, draft)
    return draft.secret(holder.at(name), holder.text(name), slug, name) or None


def _http(spec: dict[str, Any], options: Fields, target: str, draft: Draft) -> None:
    slug = spec["slug"]
    _family(options, spec)
    _trust(options, spec, draft)
    plain = target if _BOUND.match(target) else f"http://{target}"
    spec["url"] = draft.url(options.path, plain, slug, spec)
    spec["method"] = options.text("method").upper() or "GET"
    spec["headers"] = draft.headers(options.at("headers"), options.texts("headers"), slug)
    if body := options.text("body"):
        spec["body"] = body
    if path := options.text("body_file"):
        spec["body"] = _from_file(options, "body_file", path, draft)
    follows = options.flag("follow_redirects", default=not options.flag("no_follow_redirects", default=False))
    spec["redirects"] = 10 if follows else 0
    _authorize(spec, options, draft)
    spec["proxy"] = draft.proxy(options.at("proxy_url"), options.text("proxy_url"), slug)
    spec["http"] = "auto" if options.flag("enable_http2", default=True) else "1.1"
    options.leave("skip_resolve_phase_with_proxy")  # a proxy resolves by itself here
    spec["assertions"] = [*_http_assertions(options, draft)]


def _authorize(spec: dict[str, Any], options: Fields, draft: Draft) -> None:
    slug = spec["slug"]
    if options.has("basic_auth"):
        basic = options.fields("basic_auth")
        password = _secret(basic, "password", slug, draft)
        spec["auth"] = {"basic": {"username": basic.text("username"), "password": password or ""}}
        basic.rest()
    if options.has("bearer_token") or options.has("bearer_token_file"):
        spec["auth"] = {"bearer": _secret(options, "bearer_token", slug, draft) or ""}
    if options.has("authorization"):
        given = options.fields("authorization")
        scheme, credentials = given.text("type") or "Bearer", _secret(given, "credentials", slug, draft) or ""
        if scheme.lower() == "bearer":
            spec["auth"] = {"bearer": credentials}
        else:
            spec["headers"]["Authorization"] = f"{scheme} {credentials}"
        given.rest()
    if options.has("oauth2"):
        given = options.fields("oauth2")
        spec["auth"] = draft.oauth2(given, "client_secret", "token_url", "client_id", slug)
        given.rest()
    for name in (extra := options.fields("http_headers")):
        header = extra.fields(name)
        listed = [draft.header(header.at("values"), name, str(one), slug) for one in header.items("values")]
        listed += [f"${{file:{path}}}" for path in header.items("files")]
        listed += [
            draft.secret(header.at("secrets"), str(one), slug, name) for one in header.items("secrets")
        ]
        spec["headers"][name] = ", ".join(map(str, listed))
        header.rest()


def _http_assertions(options: Fields, draft: Draft) -> Iterator[dict[str, Any]]:
    codes = [int(code) for code in options.items("valid_status_codes") if str(code).isdecimal()]
    if len(codes) < len(options.items("valid_status_codes")):
        options.note("valid_status_codes", "has what is no status; left out")
    if codes:
        yield {"of": "status", "eq": codes[0]} if len(codes) == 1 else {"of": "status", "in": codes}
    versions = [
        "h2" if str(one).startswith("HTTP/2") else str(one) for one in options.items("valid_http_versions")
    ]
    if versions:
        yield {"of": "protocol", "in": versions}
    if options.flag("fail_if_not_ssl", default=False):
        yield {"of": "certificate.version", "exists": True}
    if options.flag("fail_if_ssl", default=False):
        yield {"of": "certificate.version", "exists": False}
    for pattern in options.items("fail_if_body_matches_regexp", "fail_if_matches_regexp"):
        yield {"of": "body", "matches": str(pattern), "not": True}
    for pattern in options.items("fail_if_body_not_matches_regexp", "fail_if_not_matches_regexp"):
        yield {"of": "body", "matches": str(pattern)}
    for key, negated in (
        ("fail_if_header_matches", {"not": True}),
        ("fail_if_header_not_matches", {}),
        ("fail_if_header_matches_regexp", {"not": True}),
        ("fail_if_header_not_matches_regexp", {}),
    ):
        for one in options.each(key):
            name, pattern = one.text("header"), one.text("regexp")
            if one.flag("allow_missing", default=False) and negated and pattern in (".*", "^.*$", ".+", ""):
                yield {"of": "header", "name": name, "exists": False}
            elif one.flag("allow_missing", default=False):
                one.note("allow_missing", f"a missing {name} fails its assertion here; left out")
            else:
                yield {"of": "header", "name": name, "matches": pattern} | negated
            one.rest()


def _place(target: str, draft: Draft, path: str) -> dict[str, Any]:
    host, _, port = re.sub(r"^\w+://", "", target).rpartition(":")
    if not host or not port.isdigit():
        draft.note(path, f"{target!r} has no port; write one")
        return {"host": host or target, "port": 1}
    return {"host": host.strip("[]"), "port": int(port)}


def _tcp(spec: dict[str, Any], options: Fields, target: str, draft: Draft) -> None:
    _family(options, spec)
    spec |= _place(target if target != PLACEHOLDER else f"{PLACEHOLDER}:443", draft, options.path)
    spec["tls"] = options.flag("tls", default=False)
    steps: list[dict[str, Any]] = []
    for given in options.each("query_response"):
        expect, send = given.text("expect"), given.text("send")
        literal = given.text("expect_bytes")
        given.note_given("are not recorded", "labels")
        if expect and steps and steps[-1].keys() == {"matches"}:  # both may come at once: one step hears them
            steps[-1]["matches"] += f"(?s:.*\\n.*?){_of_a_line(expect)}"
        elif expect or literal:
            steps.append({"matches": f"(?m){_of_a_line(expect)}"} if expect else {"expect": literal})
        if send:  # after what is expected in the same entry
            steps.append(_sent(_captured(send, steps, given, draft)))
        if given.flag("starttls", default=False):
            said = " ".join(str(value) for step in steps for value in step.values())
            spec["starttls"] = next((name for pattern, name in _STARTTLS if pattern.search(said)), None)
            if spec["starttls"] is None:
                given.note("starttls", "it is not known of which protocol; write starttls: smtp, imap, ...")
            elif steps:
                given.note(
                    "starttls", f"what is said before it is said by Upbeat itself, as {spec['starttls']}"
                )
            steps = []
        given.rest()
    if spec["tls"] or spec.get("starttls"):
        _trust(options, spec, draft)
    else:
        options.leave("tls_config")
    spec["steps"] = steps


def _of_a_line(pattern: str) -> str:
    """blackbox_exporter looks at one line after the other, without their ends."""
    return re.sub(r"(?<!\\)\$$", r"\\r?$", re.sub(r"(?<!\\)\[\^", r"[^\\r\\n", pattern))


def _sent(text: str) -> dict[str, Any]:
    whole = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)  # what is no byte of a `!!binary` either
    raw = f"{whole}\n".encode("utf-8", "surrogateescape")
    try:
        return {"send": raw.decode()} if b"\x00" not in raw else {"send_base64": b64encode(raw).decode()}
    except UnicodeDecodeError:
        return {"send_base64": b64encode(raw).decode()}


def _captured(send: str, steps: list[dict[str, Any]], given: Fields, draft: Draft) -> str:
    """`${1}` of the expression before as a capture, where that has one group."""
    if not re.search(r"\$\{?\d", send):
        return send
    expression = steps[-1].get("matches", "") if steps else ""
    if set(re.findall(r"\$\{?(\d+)", send)) != {"1"} or len(re.findall(r"(?<!\\)\((?!\?)", expression)) != 1:
        given.note("send", f"{send!r} uses groups of an expression; write captures")
        return send
    name = f"group_{len(steps)}"
    steps[-1]["capture"] = {name: {"matches": expression}}
    return re.sub(r"\$(?:1\b|\{1\})", f"${{capture:{name}}}", send)


def _dns(spec: dict[str, Any], options: Fields, target: str, draft: Draft) -> None:
    _family(options, spec)
    spec.pop("ip", None)
    spec["host"] = options.text("query_name").rstrip(".") or "."
    record = options.text("query_type").upper()
    if record in ("", "ANY"):
        options.note(
            "query_type",
            f"{'is absent, which is ANY:' if not record else 'ANY'} has no counterpart; A is asked",
        )
        record = "A"
    spec["record"] = record
    spec["protocol"] = options.text("transport_protocol").lower()[:3] or "udp"
    if target != PLACEHOLDER:
        draft.resolver(options.path, target, spec)
    if options.text("query_class").upper() not in ("", "IN"):
        options.note("query_class", "only IN is asked")
    options.leave("recursion_desired" if options.flag("recursion_desired", default=True) else "")
    assertions: list[dict[str, Any]] = []
    if rcodes := [str(one) for one in options.items("valid_rcodes")]:
        assertions.append({"of": "rcode", "in": rcodes})
    answers = options.fields("validate_answer_rrs")
    alone = "is matched with the data of a record alone, not with its name, TTL and type"
    for key, negated, said in (
        ("fail_if_matches_regexp", {"not": True}, alone),
        ("fail_if_not_matches_regexp", {}, f"{alone}; one record that fits is enough"),
        ("fail_if_none_matches_regexp", {}, alone),
    ):
        for pattern in answers.items(key):
            answers.note(key, said)
            data = re.split(r"\t|\\t", str(pattern))[-1]
            if record in ("CNAME", "NS", "MX", "PTR", "SRV", "SOA"):
                data = re.sub(r"\\?\.(\$?)$", r"\1", data)  # the last dot of a name, which is not kept
            assertions.append({"of": "record", "type": record, "matches": data} | negated)
    answers.rest()
    spec["assertions"] = assertions


def _icmp(spec: dict[str, Any], options: Fields, target: str, draft: Draft) -> None:
    _family(options, spec)
    spec |= {"host": target.strip("[]"), "packets": 1}
    if size_bytes := options.number("payload_size"):
        spec["size"] = int(max(size_bytes, 16))
    options.leave("dont_fragment" if not options.flag("dont_fragment", default=False) else "")
