"""Saving declared objects for every surface: validated as a file is, references checked, secrets kept. No HTTP."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any, Final
from uuid import UUID

from api.auth import Permission, Principal
from api.body import escape, validated
from api.context import Services
from api.problems import ProblemError, invalid
from engine.secrets import refusal
from engine.store import inboxes, objects, triggers
from engine.store.database import Connection, transaction
from engine.store.objects import Stored
from engine.store.states import moment
from engine.store.telling import tell_of_beats
from rules.channels.channel import SECRET_FIELDS
from rules.check import compile_check
from rules.kinds.kind import ProbedRule
from rules.known import PAGELESS, Kind, check_references
from rules.maintenance import Maintenance
from rules.models import MODELS, TYPED
from rules.owner import OwnerRule
from rules.page import Page
from rules.problem import nearest, show
from rules.publishers.folder import FolderPublisher
from rules.secret import (
    MISSPELT,
    UnsetReferenceError,
    is_misspelt,
    is_secret_name,
    references,
    value_of,
)
from rules.shape import Rule, spec_of, written
from rules.trigger import Trigger

MASK: Final = "***"
_CARRIED: Final = frozenset(
    {"body", "json", "form", "files", "body_base64", "jsonrpc", "auth", "proxy", "send", "send_base64"}
    | {"upload", "script", "values"}
)
"""Keys of a beat or a step that may hold what only who may edit it is shown."""
READ_ONLY: Final = frozenset(
    {"id", "managed_by", "source", "revision", "created_at", "updated_at"}
    | {"stage", "since", "votes", "paused", "paused_until", "episode", "signals", "ping"}
    | {"suppressed_by", "flapping", "advisories", "need", "members"}
    | {"active", "next", "covers", "announced", "sick"}
    | {"tokens", "token", "ingest_url", "events_24h", "last_event_at"}
    | {"sentence", "effective", "promoted", "open_signals", "last_matched_at", "counts"}
)
"""What is shown beside a spec: ignored when it is sent back."""

_LEADS_NOWHERE: Final = frozenset({*ProbedRule.model_fields, *Page.model_fields, "on"}) - {"otlp"}
"""Fields that do not say where an object's secrets go, nor how safely."""


def rule_of(kind: Kind, document: Any) -> Rule:
    """`document` as the rule it is. Raises 422."""
    if not isinstance(document, dict):
        raise invalid([("", f"{show(document)} is not a mapping")])
    model = MODELS.get(kind)
    if model is None:
        types, written = TYPED[kind], document.get("type")
        model = types.get(written) if isinstance(written, str) else None
        if model is None:
            near = nearest(written, types) if isinstance(written, str) else ""
            said = "is missing;" if written is None else f"{show(written)} is not allowed{near or ';'}"
            raise invalid([("/type", f"{said} one of {', '.join(types)}")])
    return validated(model, document)


async def create(
    services: Services, asking: Principal, kind: Kind, document: Any, page: str | None = None
) -> Stored:
    """A new object from what was sent; `page` where the document names none. Maintenance begins now unless it says when."""
    async with transaction(services.pool) as db:
        return await _created(services, db, asking, kind, document, page)


async def create_inbox(
    services: Services, asking: Principal, document: Any, page: str | None = None
) -> tuple[Stored, inboxes.Issued]:
    """A new inbox, and its first token, which is told this once."""
    async with transaction(services.pool) as db:
        inbox = await _created(services, db, asking, "inbox", document, page)
        return inbox, await inboxes.issue_token(db, asking.actor, inbox)


async def _created(
    services: Services, db: Connection, asking: Principal, kind: Kind, document: Any, page: str | None
) -> Stored:
    if kind == "maintenance" and isinstance(document, dict):
        now = moment(services.clock.epoch_s()).replace(microsecond=0)
        begun = {"slug": f"maintenance-{token_hex(4)}", "start": now.isoformat()}
        document = document | {key: said for key, said in begun.items() if document.get(key) is None}
    rule, page_id = await _checked(services, db, asking, kind, _writable(document), page)
    asking.require(Permission.WRITE if kind != "page" else Permission.ADMIN, page_id)
    if isinstance(rule, Trigger):
        await triggers.expect_target(db, asking.actor, page_id, rule.target)
    made = await objects.create(db, asking.actor, kind, page_id, spec_of(rule))
    await tell(services, db, asking, "created", made)
    return made


async def tell(services: Services, db: Connection, asking: Principal, verb: str, stored: Stored) -> None:
    """Tell channels that want to know of it what was done to a beat."""
    now_s, public_url = services.clock.epoch_s(), services.settings.public_url
    await tell_of_beats(db, asking.actor, [(verb, stored)], now_s, public_url)


async def tried(
    services: Services, db: Connection, asking: Principal, kind: Kind, document: Any, page: str | None = None
) -> tuple[Rule, UUID | None]:
    """What was sent, refused as if it was to be saved; and the id of its page."""
    return await _checked(services, db, asking, kind, _writable(document), page)


async def change(
    services: Services,
    asking: Principal,
    stored: Stored,
    document: Any,
    *,
    patch: bool = False,
    expected: int | None = None,
) -> Stored:
    """`stored` as what was sent says; `patch`: merged into what it is (RFC 7396). `expected` is its revision then."""
    asking.require(*needed(stored))
    if stored.managed_by == "file":
        raise objects.ManagedByFileError(stored)
    if expected is not None and expected != stored.revision:
        raise objects.StaleError(stored.revision)
    sent = _writable(document)
    if patch:
        sent = merged(stored.spec, sent)
    sent = _unmasked(sent, stored.spec)
    async with transaction(services.pool) as db:
        home = await objects.get(db, stored.page_id) if stored.page_id else None
        page = home.slug if home else None
        if isinstance(sent, dict) and sent.get("page", page) != page:
            raise invalid([("/page", "an object stays on its page; create another there")])
        rule, _ = await _checked(services, db, asking, stored.kind, sent, page, stored)
        spec = spec_of(rule)
        if spec["slug"] != stored.slug:
            raise invalid(
                [("/slug", "a slug stays what it is, as others refer to it; create another object")]
            )
        if spec == stored.spec:
            return stored
        if isinstance(rule, Trigger):
            await triggers.expect_target(db, asking.actor, stored.page_id, rule.target)
        changed = await objects.replace(db, asking.actor, stored, spec, expected=expected)
        await tell(services, db, asking, "updated", changed)
        return changed


async def remove(services: Services, asking: Principal, stored: Stored, expected: int | None = None) -> None:
    """Take `stored` away."""
    permission, page_id = needed(stored)
    asking.require(permission, None if stored.kind == "page" else page_id)
    if expected is not None and expected != stored.revision:
        raise objects.StaleError(stored.revision)
    async with transaction(services.pool) as db:
        await tell(services, db, asking, "deleted", stored)
        await objects.remove(db, asking.actor, stored)


def needed(stored: Stored) -> tuple[Permission, UUID | None]:
    """What changing `stored` needs: a page its admin, a region an editor of everything, the rest an editor."""
    if stored.kind == "page":
        return Permission.ADMIN, stored.id
    return Permission.WRITE, stored.page_id


def may_edit(asking: Principal, stored: Stored) -> bool:
    """Whether they are shown its secrets."""
    return asking.may(*needed(stored))


def masked(spec: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """`spec` for who may not edit it."""
    shown = dict(spec)
    if kind in ("channel", "publisher"):
        return {key: MASK if key in SECRET_FIELDS and value else value for key, value in shown.items()}
    if kind == "inbox" and "signature" in shown:
        shown["signature"] = shown["signature"] | {"secrets": [MASK]}
    if kind == "page" and shown.get("access", {}).get("password"):
        shown["access"] = shown["access"] | {"password": MASK}
    if shown.get("otlp"):
        shown["otlp"] = _masked_otlp(shown["otlp"])
    return _masked_request(shown)


def _masked_request(request: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        key: MASK if key in _CARRIED and value else value for key, value in request.items()
    }
    if "headers" in shown:
        shown["headers"] = {
            name: MASK if is_secret_name(name) else value for name, value in shown["headers"].items()
        }
    if "fill" in shown:
        shown["fill"] = shown["fill"] | {"value": MASK}
    if "lists" in shown:
        shown["lists"] = {name: [*map(_masked_request, steps)] for name, steps in shown["lists"].items()}
    for steps in shown.keys() & {"steps", "teardown"}:
        shown[steps] = [*map(_masked_request, shown[steps])]
    return shown


def _masked_otlp(otlp: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {name: dict.fromkeys(otlp[name], MASK) for name in ("headers", "tls") if name in otlp}
    return dict(otlp) | hidden


def merged(target: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _writable(document: Any) -> Any:
    return (
        {key: value for key, value in document.items() if key not in READ_ONLY}
        if isinstance(document, dict)
        else document
    )


def _unmasked(sent: Any, stored: Any) -> Any:
    """What was shown as `***` and sent back stays what it was."""
    if isinstance(sent, dict) and isinstance(stored, Mapping):
        return {key: _unmasked(value, stored[key]) if key in stored else value for key, value in sent.items()}
    return stored if sent in (MASK, [MASK]) else sent


async def _checked(
    services: Services,
    db: Connection,
    asking: Principal,
    kind: Kind,
    document: Any,
    page: str | None,
    before: Stored | None = None,
) -> tuple[Rule, UUID | None]:
    """The rule, and its page's id. Nobody learns of a page they may not read."""
    if kind in ("beat", "group") and isinstance(document, dict) and document.keys() & {"depends_on", "group"}:
        await objects.take_turns(db)
    readable = await objects.listing(db, "page", pages=asking.pages_for(Permission.READ))
    pages = {stored.slug: stored.id for stored in readable}
    if kind not in PAGELESS and isinstance(document, dict):
        document = {"page": page} | document if page else document
        if document.get("page") is None and len(pages) == 1:
            document = document | {"page": next(iter(pages))}
    rule = rule_of(kind, document)
    errors = check_references(kind, rule, (await objects.known(db)).seen_from(pages))
    page_id = pages.get(getattr(rule, "page", None) or "")
    home = before.id if before and kind == "page" else page_id
    if isinstance(rule, Trigger) and not errors:
        try:
            await triggers.expect_target(db, None, page_id, rule.target)
        except ValueError as wrong:
            raise invalid([("/target/external", str(wrong))]) from None
    errors += await _unrunnable(services, db, asking, rule, home, before.spec if before else {})
    if errors:
        raise invalid(errors)
    if isinstance(rule, OwnerRule | Maintenance):
        for path in rule.components:
            other, slash, _ = path.rpartition("/")
            if slash:  # it speaks in the name of that page, too
                asking.require(Permission.WRITE, pages[other])
    return rule, page_id


async def unlent(
    services: Services,
    db: Connection,
    asking: Principal,
    document: Any,
    page_id: UUID | None,
    before: Collection[str] = (),
) -> list[tuple[str, str]]:
    """References in `document`, an object of this page, that who asks may not make; those `before` are there already."""
    errors = []
    found = list(_texts(document, ""))
    if any("${secret:" in text for _, text in found):
        await services.secrets.refresh(db)
    sources = services.secrets.of(page_id)
    for pointer, text in found:
        if is_misspelt(text):
            errors.append((pointer, MISSPELT))
        for reference in references(text):
            if reference.startswith("env:UPBEAT_"):
                errors.append((pointer, f"${{{reference}}} is one of Upbeat's own secrets, which go nowhere"))
            elif reference not in before and (refused := _refusal(services, asking, reference, page_id)):
                errors.append((pointer, f"${{{reference}}} {refused}"))
            elif reference.startswith("secret:"):
                try:
                    value_of(reference, sources)
                except UnsetReferenceError as unset:
                    errors.append((pointer, str(unset)))
    return errors


def _refusal(services: Services, asking: Principal, reference: str, page_id: UUID | None) -> str | None:
    """Why they may not make `reference` on this page: what is of no page is the installation's, the machine's the operator's."""
    if page_id and reference.startswith("secret:") and not reference.startswith("secret:/"):
        return None
    if not asking.may(Permission.WRITE, None):
        return (
            "is the installation's: ask an editor of every page, or use a secret of this page, ${secret:NAME}"
        )
    return None if asking.is_operator else refusal(reference, services.secrets.lending)


async def _unrunnable(
    services: Services,
    db: Connection,
    asking: Principal,
    rule: Rule,
    page_id: UUID | None,
    before: Mapping[str, Any],
) -> list[tuple[str, str]]:
    """References that may not be, and what cannot be compiled."""
    if isinstance(rule, FolderPublisher) and rule.folder != before.get("folder") and not asking.is_operator:
        refused = refusal(f"folder:{rule.folder}", services.secrets.lending)
        real = Path(os.path.realpath(rule.folder))
        for other in () if refused else await objects.listing(db, "publisher"):
            theirs = other.spec.get("folder") if other.page_id != page_id else None
            if theirs and real.is_relative_to(os.path.realpath(theirs)):
                refused = "is within the folder of another page: name one beside it"
        if refused:
            return [("/folder", f"{rule.folder} {refused}")]
    old = frozenset(references(before))
    errors = await unlent(services, db, asking, rule.model_dump(mode="json"), page_id, old)
    if any(_refusal(services, asking, reference, page_id) for reference in old):
        now = written(rule)
        said = "this may lead a secret elsewhere that is not yours to use: ask who made the object"
        errors += [
            (f"/{name}", said)
            for name in (now.keys() | before.keys()) - _LEADS_NOWHERE
            if now.get(name) != before.get(name)
        ]
    if isinstance(rule, ProbedRule) and not errors:
        try:
            compile_check(rule, services.secrets.of(page_id))
        except UnsetReferenceError:
            return []  # the probes may have it though this process has not
        except ValueError as wrong:
            return [("", str(wrong))]
    return errors


def _texts(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    """Every text in `value` that may hold a reference, with its JSON Pointer."""
    if isinstance(value, str):
        if "${" in value:
            yield pointer, value
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _texts(inner, f"{pointer}/{escape(str(key))}")


def expected_revision(if_match: str | None) -> int | None:
    """The revision in If-Match; None for none and for `*`."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = re.fullmatch(r'"(\d{1,18})"', if_match.strip())
    if match is None:
        raise ProblemError(412, "stale", 'If-Match takes the ETag of the object, such as "3"')
    return int(match.group(1))
