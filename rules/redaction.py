"""What people are never shown of what others sent: values whose name or look is a secret's, and those an inbox names.

Shape and types of a document stay; a hidden value is `***`. It is of one event: what was hidden in its parts is then
hidden in all that is derived from them (traces, messages) as well. Reading the raw bytes is another permission.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec
import re2

from rules.reference import Reference, parse_reference, parse_template
from rules.secret import HIDDEN_LEAST, hidden_forms, hide, is_secret_name
from rules.selection import Budget, BudgetError, Steps, is_definite, meets, normal_path, outline, places
from rules.trigger import Trigger

MASK: Final = "***"
MOST_HIDDEN: Final = 500
"""Hidden values that are looked for in what is derived; where there are more, nothing derived is shown."""
_DEEPEST: Final = 100
_MOST: Final = 2**63 - 1
_SHORT: Final = 4  # characters; anything may equal what is shorter
_WORD: Final = re.compile(r"[\w-]+")
_FIRST: Final = re.compile(r"^\[[^\]]*\]")

# Names that only look like a secret's: who wrote something, and by what it is told apart.
_ORDINARY: Final = re.compile(
    r"author(?!i[sz])|^keys?$|(?:group|dedup|dedupe|deduplication|aggreg|aggregation|cycle|alert|incident|event|issue|problem"
    r"|project|host|monitor|metric|check|rule|node|partition|correlation|idempotency|object|resource|sort)[_.-]?keys?$",
    re.IGNORECASE,
)
# A name that a secret goes by and what stands between, or what else comes before one; and the value, in quotes or not.
# Linear in any text, as RE2 is.
_NAMED: Final = re2.compile(
    r"(?i)([\w.-]*(?:auth|cookie|token|secret|passw|passphrase|pwd|\bpass\b|[_.-]pass\b|session|credential|signature|key)"
    r"[\w.-]*[\"']?\s*[:=]\s*(?:bearer\s+|basic\s+)?|\bbearer\s+)"
    r"(?:(\")[^\"\n]+|(')[^'\n]+|[^\s\"',;&@]+)"
)
# What is a secret by its look: JWT, keys of clouds and code hosts, private keys, credentials and secret parts of URLs, ours.
_LOOKS: Final = re2.compile(
    r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{12,}|\bAIza[\w-]{30,}|\bgh[opsur]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{15,}"
    r"|\bxox[a-z]-[\w-]{8,}|\b[sr]k_(?:live|test)_\w{8,}|\bwhsec_[\w+/=-]{8,}|\bSG\.[\w-]{10,}\.[\w-]{10,}"
    r"|\bnpm_\w{20,}|\bup[bi]_\w{8,}"
)
_IN_URL: Final = re2.compile(
    r"((?i)//hooks\.slack\.com/(?:services|workflows|triggers)/|//discord(?:app)?\.com/api/webhooks/\d+/"
    r"|/external-events/ingest/|/ping/|[?&](?:sig|code|x-amz-credential|sas)=)[^\s\"'<>?&]{8,}"
)
_BEFORE: Final = re2.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}")
# What follows a user's name, also where the text ends before the host: no port is.
_AFTER_USER: Final = re2.compile(r"(://[^\s/@:\"']*:)\d*[A-Za-z_$%^*~+=!-][^\s\"',;&@]*")
_CREDENTIALS: Final = re2.compile(r"://[^\s/@:\"']*:[^\s/@\"']+@")
_ANY: Final = re2.compile(
    "|".join(f"(?:{one.pattern})" for one in (_NAMED, _LOOKS, _IN_URL, _BEFORE, _CREDENTIALS, _AFTER_USER))
)
_RANDOM: Final = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+/_=-]{24,}")


@lru_cache(maxsize=4096)
def is_hidden_name(name: str) -> bool:
    """Whether a value called so is hidden; `author` and `groupKey` are not secrets."""
    return is_secret_name(_ORDINARY.sub("", name))


def hidden_text(text: str, *, named: bool = True) -> str:
    """`text` without what looks like a secret; `named`: nor what a name in the text says is one."""
    text = _whole(text)
    if _ANY.search(text) is None:  # as good as always
        return text
    text = _LOOKS.sub(MASK, text)
    text = _IN_URL.sub(r"\1***", _CREDENTIALS.sub("://***@", _BEFORE.sub(r"\1 ***", text)))
    return str(_NAMED.sub(r"\1\2\3***", _AFTER_USER.sub(r"\1***", text))) if named else str(text)


def _is_hidden_reference(text: str, paths: Iterable[str]) -> bool:
    """Whether what a reference of a rule names is hidden by its name, or by one of these paths of the body."""
    path = text.removeprefix("body:")
    return any(map(is_hidden_name, _WORD.findall(text))) or any(path.startswith(hidden) for hidden in paths)


def hidden_paths(rule: Trigger, paths: Iterable[str]) -> tuple[str, ...]:
    """These paths of the body, also as they are within an item of `rule`."""
    found, each = list(paths), rule.each
    for path in paths if each else ():
        if each and path.startswith(each):
            rest = path.removeprefix(each)
            found.append(f"${_FIRST.sub('', rest) if is_definite(each) else rest}")
    return tuple(found)


def is_hidden(rule: Trigger, reference: Reference, paths: Sequence[str]) -> bool:
    """Whether what `rule` refers to may be, be in or hold what is hidden by its name or by these paths of the body."""
    if any(map(is_hidden_name, _WORD.findall(reference.text))):
        return True
    if reference.source == "value":
        named = rule.values[reference.name].references
        return any(is_hidden(rule, parse_reference(text), paths) for text in named)
    if reference.source not in ("item", "body"):
        return reference.source == "text" and bool(paths)
    way, each = outline(reference.name), rule.each if reference.source == "item" else None
    items = outline(each) if each else ()
    for path in map(outline, paths):
        is_of_list = (
            each and is_definite(each) and not any(isinstance(step, str) for step in path[len(items) :][:1])
        )
        if meets((*items, None, *way) if is_of_list else (*items, *way), path):
            return True
    return False


def masked_message(rule: Trigger, paths: Sequence[str]) -> str:
    """The message of `rule`, where values that people are never shown are `***`: it goes to people without its event."""
    parts = []
    for part in parse_template(rule.message):
        if isinstance(part, str):
            parts.append(part.replace("{", "{{").replace("}", "}}"))
            continue
        parts.append(MASK if is_hidden(rule, part, paths) else f"{{{part.text}}}")
    return "".join(parts)


class Redaction:
    """What is hidden of one event. `paths` are its inbox's; `hidden` names, as JSONPaths, what of the document was."""

    def __init__(self, paths: Sequence[str] = ()) -> None:
        self._paths = paths
        self._values: set[str] = set()
        self._forms: tuple[str, ...] | None = None
        self._begun: set[str] = set()  # how they begin
        self.hidden: list[str] = []

    def document(self, body: Any) -> Any:
        """A body that was taken apart."""
        named: set[Steps] = set()
        try:
            budget = Budget()
            for path in self._paths:
                named.update(places(path, body, budget))
        except BudgetError:
            named = {()}  # nobody can say what is to be hidden: all of it is
        return self._shown(body, (), "", named)

    def headers(self, pairs: Iterable[Sequence[str]]) -> list[list[str]]:
        """Names and values of headers."""
        return [[name, self._text(value, (), name)] for name, value in pairs]

    def query(self, query: str) -> str:
        """A query, as it came."""
        return "&".join(map(self._parameter, query.split("&"))) if query else ""

    def text(self, text: str) -> str:
        """A body that could not be taken apart."""
        if self._paths and any(sign in text for sign in "{["):  # where in it those paths lead nobody can say
            return self._hide(text, (), is_whole=True)
        return self._text(text, (), "")

    def derived(self, value: Any, reference: str = "") -> Any:
        """What was made of the event, which was shown before: a trace, a message; `reference` names where it is from."""
        if value in (None, "", []):
            return value
        if _is_hidden_reference(reference, self._paths) or len(self._values) > MOST_HIDDEN:
            return MASK
        if self._forms is None:
            self._forms = hidden_forms(self._values)
            self._begun = {form[:HIDDEN_LEAST] for form in self._forms}
        return self._without(value)

    def _without(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                self._without(key): self._blank(inner, None)
                if is_hidden_name(_name_of(value, key))
                else self._without(inner)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._without(inner) for inner in value]
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            if len(str(value)) >= _SHORT and str(value) in self._values:
                return MASK
            return self._plain(hidden_text(value)) if isinstance(value, str) else value
        return value

    def _plain(self, text: str) -> str:
        """`text` without what was hidden. Mostly none of it is there, and looking for each of many takes long."""
        places = range(len(text) - HIDDEN_LEAST + 1)
        is_there = any(text[place : place + HIDDEN_LEAST] in self._begun for place in places)
        return hide(text, self._forms or ()) if is_there else text

    def _shown(self, value: Any, place: Steps, name: str, named: set[Steps]) -> Any:
        if len(place) > _DEEPEST or place in named or is_hidden_name(name):
            return self._blank(value, place, is_whole=place in named)
        if isinstance(value, dict):
            return {
                _hidden_key(key): self._shown(inner, (*place, key), _name_of(value, key), named)
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return [self._shown(inner, (*place, n), name, named) for n, inner in enumerate(value)]
        if isinstance(value, int) and not -_MOST <= value <= _MOST:
            return str(value)  # no JSON of ours holds it
        return self._text(value, place, name) if isinstance(value, str) else value

    def _text(self, text: str, place: Steps, name: str) -> str:
        text = _whole(text)
        if is_hidden_name(name) or (name.lower() in ("key", "keys") and _RANDOM.fullmatch(text)):
            return self._hide(text, place, is_whole=True)
        if text[:1] in ("{", "["):  # JSON in a text is read as the senders meant it
            try:
                inner = msgspec.json.decode(text)
                within = Redaction()
                shown = within.document(inner)
            except (msgspec.DecodeError, RecursionError):
                return self._hide(text, place)
            self._values |= within._values
            if not within.hidden:
                return text
            self._note(place)
            return msgspec.json.encode(shown).decode()
        return self._hide(text, place)

    def _hide(self, text: str, place: Steps, *, is_whole: bool = False) -> str:
        shown = MASK if is_whole and text else hidden_text(text)
        if shown != text:
            self._values.update([text] if is_whole else _secrets(text))
            self._note(place)
        return shown

    def _blank(self, value: Any, place: Steps | None, *, is_whole: bool = False) -> Any:
        """All of `value` hidden but its shape; truth, which is no secret by its name, only where an inbox says so."""
        if isinstance(value, dict):
            return {k: self._blank(v, _in(place, k), is_whole=is_whole) for k, v in value.items()}
        if isinstance(value, list):
            return [self._blank(v, _in(place, n), is_whole=is_whole) for n, v in enumerate(value)]
        if value is None or value == "" or (isinstance(value, bool) and not is_whole):
            return value
        if place is not None:
            self._values.add(str(value))
            self._note(place)
        return MASK

    def _note(self, place: Steps) -> None:
        if len(self.hidden) < MOST_HIDDEN:
            self.hidden.append(normal_path(place))

    def _parameter(self, part: str) -> str:
        name, equals, value = part.partition("=")
        plain = unquote_plus(value)
        shown = self._text(plain, (), unquote_plus(name))
        return part if shown == plain else f"{name}{equals}{shown}"


@lru_cache(maxsize=4096)
def _hidden_key(key: str) -> str:
    return hidden_text(key, named=False)


def _whole(text: str) -> str:
    """`text` as RE2 and JSON take it: half a surrogate pair is none."""
    return text.encode("utf-8", "replace").decode()


def _in(place: Steps | None, step: str | int) -> Steps | None:
    return None if place is None else (*place, step)


def _name_of(value: dict[str, Any], key: str) -> str:
    """What a member of an object is called: of `{name: token, value: x}` the value is called `token`."""
    if key in ("value", "Value"):
        for by in ("name", "key", "Name", "Key"):
            if isinstance(said := value.get(by), str):
                return said
    return key


def _secrets(text: str) -> Iterator[str]:
    """What `hidden_text` hides of a text."""
    for pattern in (_LOOKS, _CREDENTIALS, _BEFORE):
        yield from (match[0] for match in pattern.finditer(text))
    for pattern in (_IN_URL, _NAMED, _AFTER_USER):
        yield from (match[0][len(match[1]) :].strip("\"'") for match in pattern.finditer(text))
