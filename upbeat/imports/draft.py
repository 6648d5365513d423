"""The `upbeat.yaml` to be: what was understood of a peer's file, each beat held against the real rules before it is kept."""

import contextlib
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import TypeAdapter, ValidationError

from rules.beat import BEAT
from rules.channel import CHANNEL
from rules.check import compile_check
from rules.component import Region
from rules.config import Declared, dump, parse
from rules.declared import Document
from rules.kinds.dns import parse_resolver
from rules.kinds.kind import MIN_INTERVAL_S, ProbedRule
from rules.known import Kind
from rules.node import MAX_BYTES
from rules.secret import Unjudged, UnsetReferenceError, is_misspelt, is_secret_name, references
from rules.settings import Settings
from rules.shape import Rule
from upbeat.imports.source import Fields, Note, SourceError

MOST_INTERVAL_S: Final = 86_400.0
MOST_TIMEOUT_S: Final = 300.0
MOST_RETRIES: Final = 5
TIMEOUT_S: Final = 10.0
ANY_STATUS: Final = {"of": "status", "between": [100, 599]}
_WHOLE: Final = ("slug", "type", "url", "host", "port", "record", "resolver", "every", "steps")
"""Without these a beat would measure something else."""


class Draft:
    """Gathers objects and notes. Everything is written as in `upbeat.yaml`, durations as seconds."""

    def __init__(self, lines: Mapping[str, int]) -> None:
        self._notes: dict[Note, None] = {}
        self._settings: dict[str, Any] = {}
        self._regions: dict[str, Region] = {}
        self._objects: dict[Kind, list[Rule]] = {"channel": [], "beat": []}
        self._slugs: dict[Kind, dict[str, int]] = {"channel": {}, "beat": {}}
        self._variables: dict[str, str] = {}
        self._names: dict[str, int] = {}
        self._lines = dict(lines)

    @property
    def notes(self) -> list[Note]:
        """What was said, in its order, each thing once."""
        return [*self._notes]

    def note(self, path: str, message: str) -> None:
        """Something of the source is not as it was, at this path."""
        place = path
        while place and place not in self._lines:
            place = place.rpartition("[")[0] if place.endswith("]") else place.rpartition(".")[0]
        self._notes[Note(path, message, self._lines.get(place, 0))] = None

    def place(self, path: str, line: int) -> str:
        """From now on `path` is on this line."""
        self._lines[path] = line
        return path

    def slug(self, kind: Kind, *names: str) -> str:
        """A slug for what is called so: the same for the same file, and nobody else's."""
        whole = (
            unicodedata.normalize("NFKD", "-".join(filter(None, names))).encode("ascii", "ignore").decode()
        )
        base = re.sub(r"[^a-z0-9]+", "-", whole.lower()).strip("-")[:58].strip("-") or kind
        return _free(base, "-", self._slugs[kind])

    def tags(self, path: str, *names: str) -> list[str]:
        """`names` as tags; one without a letter that tags may have is named."""
        made = {name: re.sub(r"[^A-Za-z0-9_.:/-]+", "-", name).strip("-._:/")[:63] for name in names if name}
        for name in (name for name, tag in made.items() if not tag):
            self.note(path, f"{name[:60]!r} has no letter that a tag may have; left out")
        return [*dict.fromkeys(filter(None, made.values()))]

    def region(self, slug: str) -> str:
        """Declare a region."""
        slug = re.sub(r"[^a-z0-9]+", "-", slug.lower()).strip("-")[:60].strip("-") or "local"
        self._regions.setdefault(slug, Region(slug=slug))
        return slug

    def reference(self, path: str, target: str) -> None:
        """What a probe tries to tell its own trouble from the target's."""
        try:
            self._regions["local"] = Region(slug="local", reference=[target])
        except ValidationError:
            self.note(path, f"{target[:60]!r} is not host:port; left out")

    def setting(self, path: str, key: str, value: Any) -> None:
        """A setting of the installation, when it is allowed."""
        try:
            _expect_spelt(Settings.model_validate({key: value}).model_dump(mode="json"))
        except ValueError as refused:
            errors = refused.errors(include_url=False) if isinstance(refused, ValidationError) else []
            self.note(path, f"is left out: {errors[0]['msg'] if errors else refused}")
        else:
            self._settings[key] = value

    # ---- secrets

    def secret(self, path: str, value: str, *hints: str) -> str:
        """A reference in the place of a secret that was written out; the same value is one variable."""
        if not value or any(references(value)):
            return value
        if value not in self._variables:
            base = re.sub(r"[^A-Z0-9]+", "_", "_".join(hints).upper()).strip("_") or "SECRET"
            base = f"S_{base}" if base[0].isdigit() or base.startswith("UPBEAT_") else base
            self._variables[value] = _free(base, "_", self._names)
        name = self._variables[value]
        self.note(path, f"is a secret, which is not copied: set the variable {name}")
        return f"${{env:{name}}}"

    def header(self, path: str, name: str, value: str, beat: str) -> str:
        """A header's value; the secret part of one with a telling name becomes a reference."""
        if not is_secret_name(name) or not value or "${" in value:
            return value
        scheme, blank, credentials = value.partition(" ")
        if blank and scheme.lower() in ("bearer", "basic", "token", "apikey", "digest"):
            return f"{scheme} {self.secret(path, credentials.strip(), beat, name)}"
        return self.secret(path, value, beat, name)

    def headers(self, path: str, given: Mapping[str, str], beat: str) -> dict[str, str]:
        """All headers at a path."""
        return {name: self.header(f"{path}.{name}", name, value, beat) for name, value in given.items()}

    def oauth2(self, given: Fields, secret: str, url: str, client: str, beat: str) -> dict[str, Any]:
        """Client credentials under these keys; a secret in a file stays there."""
        file = given.text(f"{secret}_file")
        kept = (
            f"${{file:{file}}}"
            if file
            else self.secret(given.at(secret), given.text(secret), beat, "client-secret")
        )
        made = {"token_url": given.text(url), "client_id": given.text(client), "client_secret": kept}
        return {"oauth2": made | {"scope": " ".join(map(str, given.items("scopes"))) or None}}

    def proxy(self, path: str, url: str, beat: str) -> str | None:
        """A proxy's URL, its password a reference."""
        given: dict[str, Any] = {}
        bare = self.url(path, url, f"{beat}-proxy", given)
        if not given:
            return url or None
        scheme, _, place = bare.partition("://")
        login = given["auth"]["basic"]
        return f"{scheme}://{login['username']}:{login['password']}@{place}"

    def resolver(self, path: str, server: str, spec: dict[str, Any]) -> None:
        """The name server a dns beat asks; without one that can be asked, the beat waits for it."""
        if not server:
            return
        try:
            parse_resolver(server)
        except ValueError as wrong:
            spec["enabled"] = False
            self.note(path, f"{wrong}: write it as `resolver` and enable the beat")
        else:
            spec["resolver"] = server

    def url(self, path: str, url: str, beat: str, spec: dict[str, Any]) -> str:
        """A URL without what is secret in it: credentials become `auth`, parameters with telling names references."""
        try:
            parts = urlsplit(url)
            password, username = parts.password, parts.username
        except ValueError:
            return url
        if username or password:
            parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
            given = self.secret(path, password or "", beat, "password")
            spec.setdefault("auth", {"basic": {"username": username or "", "password": given}})
        query = parts.query
        if query and any(is_secret_name(name) for name, _ in parse_qsl(query)):
            pairs = [
                (name, self.secret(path, value, beat, name) if is_secret_name(name) else value)
                for name, value in parse_qsl(query, keep_blank_values=True)
            ]
            query = urlencode(pairs, safe="${}:/,")
        return urlunsplit(parts._replace(query=query))

    # ---- beats

    def paced(
        self, path: str, *, interval_s: float | None, timeout_s: float | None, retries: float | None = 0
    ) -> dict[str, Any]:
        """Interval, timeout and retries within what is allowed; what is cut is named."""
        interval = self._within(path, "interval", interval_s or 60.0, MIN_INTERVAL_S, MOST_INTERVAL_S)
        timeout = self._within(path, "timeout", timeout_s or TIMEOUT_S, 0.001, MOST_TIMEOUT_S)
        if timeout > interval:
            if timeout_s:
                self.note(
                    path,
                    f"the timeout {timeout:g} s is longer than the interval and is cut to {interval:g} s",
                )
            timeout = interval
        times = self._within(path, "retries", max(retries or 0.0, 0.0), 0, MOST_RETRIES)
        return {"interval": interval, "timeout": timeout, "retries": int(times)}

    def _within(self, path: str, what: str, value: float, least: float, most: float) -> float:
        fits = min(max(value, least), most) if math.isfinite(value) else most
        if fits != value:
            self.note(path, f"{what} {value:g} is not allowed; {fits:g} is taken")
        return fits

    def beat(self, path: str, spec: dict[str, Any]) -> bool:
        """Keep a beat, without those of its parts that the rules refuse: they are named. False: it is refused whole."""
        if any(references(spec.get("name"))):
            self.note(path, "has a variable in its name, which is not replaced there")
        return self._keep(
            "beat", path, {key: value for key, value in spec.items() if value is not None}, BEAT
        )

    def channel(self, path: str, spec: dict[str, Any]) -> bool:
        """Keep a channel, in the same way."""
        if spec["type"] == "smtp" and spec["port"] == 25:
            self.note(
                path, "is sent over TLS alone; write `tls: none` for a relay on this host that has none"
            )
        return self._keep("channel", path, spec, CHANNEL)

    def _keep(self, kind: Kind, path: str, spec: dict[str, Any], model: TypeAdapter[Any]) -> bool:
        for _ in range(100):
            try:
                rule = model.validate_python(spec)
                _expect_spelt(rule.model_dump(mode="json"))
                if isinstance(rule, ProbedRule):
                    with contextlib.suppress(UnsetReferenceError):
                        compile_check(rule, Unjudged())
            except ValidationError as refused:
                error = refused.errors(include_url=False)[0]
                said = str(error["msg"]).removeprefix("Value error, ")
                where = [step for step in error["loc"] if step != spec.get("type")]
                if not self._without(spec, where):
                    return self._refused(
                        kind, path, spec, f"{'.'.join(map(str, where))}: {said}" if where else said
                    )
                self.note(path, f"{'.'.join(map(str, where))} is left out: {said}")
            except ValueError as refused:
                return self._refused(kind, path, spec, str(refused))
            else:
                self._objects[kind].append(rule)
                return True
        return self._refused(kind, path, spec, "too many of its parts are not allowed")

    def _refused(self, kind: Kind, path: str, spec: Mapping[str, Any], said: str) -> bool:
        self._slugs[kind].pop(spec["slug"], None)
        self.note(path, f"is not imported: {said}")
        return False

    def _without(self, spec: dict[str, Any], where: list[Any]) -> bool:
        """Take out the part that is refused, unless a beat is nothing without it."""
        if not where or where[0] in _WHOLE or where[0] not in spec:
            return False
        holder = spec[where[0]]
        if len(where) > 1 and isinstance(holder, list) and isinstance(where[1], int):
            del holder[where[1]]
        elif len(where) > 1 and isinstance(holder, dict) and where[0] == "headers":
            holder.pop(where[1], None)
        else:
            del spec[where[0]]
        return True

    # ---- the document

    @property
    def counts(self) -> dict[str, int]:
        """How many beats and channels there are."""
        return {f"{kind}s": len(rules) for kind, rules in self._objects.items()}

    def document(self) -> tuple[str, Document]:
        """The text, read back by the parser that `serve` uses.

        Raises `SourceError` where it is too long, `rules.config.ConfigError` for a bug of ours.
        """
        declared = [Declared("region", slug, None, region, 0) for slug, region in self._regions.items()]
        for kind, rules in self._objects.items():
            declared += [Declared(kind, getattr(rule, "slug", ""), None, rule, 0) for rule in rules]
        text = dump(declared, Settings.model_validate(self._settings))
        if (size_bytes := len(text.encode())) > MAX_BYTES:
            said = (
                f"what it becomes has {size_bytes} bytes, where an upbeat.yaml may have {MAX_BYTES}; split it"
            )
            raise SourceError(said)
        return text, parse(text, "upbeat.yaml", Unjudged())


def _free(base: str, joint: str, taken: dict[str, int]) -> str:
    """`base`, or `base` with the next number that nobody has; `taken` counts."""
    name = base
    while name in taken:
        taken[base] = taken.get(base, 1) + 1
        name = f"{base}{joint}{taken[base]}"
    taken[name] = 1
    return name


def _expect_spelt(value: Any) -> None:
    """Raises `ValueError` for text that looks like a reference to a secret and is none."""
    if isinstance(value, str) and is_misspelt(value):
        raise ValueError(f"{value[:60]!r} looks like a reference and is none")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _expect_spelt(inner)
