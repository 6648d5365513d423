"""Subscribers as CSV: what a file says, line by line, and the file of those there are. Nothing is stored here."""

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_args
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from engine.store.subscribers import Entry, folded
from rules.page import SubscriberKind
from rules.subscriber import PersonName, address_of

MOST_LINES: Final = 50_000
COLUMNS: Final = ("kind", "email", "url", "components", "language", "name", "confirmed", "status")
_CONFIRMED: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_ENDED: Final = ("unsubscribed", "bounced")
_COMPUTED: Final = re.compile(r"'*[=+\-@\t\r]")
_NAME: Final = TypeAdapter[str](PersonName)


@dataclass(slots=True)
class Sheet:
    """What a file says: who confirmed elsewhere, who is to be asked; and what is wrong with it, as (number of the line, what)."""

    confirmed: list[Entry] = field(default_factory=list)
    pending: list[Entry] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)
    repeated: int = 0  # lines about who an earlier one is about
    ended: int = 0  # lines about who unsubscribed or bounced: nobody is told again by a file


def read_sheet(
    raw: bytes, components: Mapping[str, UUID], languages: Collection[str], *, are_confirmed: bool
) -> Sheet:
    """The lines of a file: UTF-8, with a header, separated by commas or semicolons. Takes seconds for a long one."""
    sheet, told = Sheet(), dict[tuple[str, str], tuple[Entry, bool] | None]()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = raw[: wrong.start].count(b"\n") + 1
        return Sheet(bad=[(line, "is not UTF-8: save the file as CSV UTF-8")])
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        if not {"email", "url"} & set(header) or len({*header}) != len(header):
            said = f"names the columns, each once: email or url, and any of {', '.join(COLUMNS)}"
            return Sheet(bad=[(1, said)])
        for count, cells in enumerate(cells for cells in lines if any(map(str.strip, cells))):
            if count == MOST_LINES:
                sheet.bad.append((lines.line_num, f"is beyond {MOST_LINES} lines: split the file"))
                break
            try:
                if len(cells) != len(header):
                    raise ValueError(f"has {len(cells)} cells; the first line has {len(header)}")
                said_of = dict(zip(header, map(_plain, cells), strict=True))
                one = _entry(said_of, components, languages)
                is_confirmed = _CONFIRMED[_one_of("confirmed", said_of, _CONFIRMED) or "no"]
            except ValueError as wrong:
                sheet.bad.append((lines.line_num, str(wrong)))
                continue
            key = one.kind, folded(one.kind, one.address)
            if said_of.get("status") in _ENDED:  # whatever other lines say
                told[key] = None
                sheet.ended += 1
            else:
                sheet.repeated += key in told
                told.setdefault(key, (one, is_confirmed or are_confirmed))
    except csv.Error as wrong:
        sheet.bad.append((lines.line_num, f"cannot be read as CSV: {wrong}"))
    for entry, is_confirmed in filter(None, told.values()):
        (sheet.confirmed if is_confirmed else sheet.pending).append(entry)
    return sheet


def _entry(said: Mapping[str, str], components: Mapping[str, UUID], languages: Collection[str]) -> Entry:
    given = [name for name in ("email", "url") if said.get(name)]
    if len(given) != 1:
        raise ValueError("has an email or a url, one of them")
    address = said[given[0]]
    guess = "email" if given == ["email"] else "slack" if "//hooks.slack" in address else "webhook"
    kind: Any = _one_of("kind", said, get_args(SubscriberKind)) or guess
    if (kind == "email") != (given == ["email"]):
        raise ValueError(f"is of the kind {kind} and has its address in the column {given[0]}")
    try:
        address = address_of(kind, address)
    except ValueError as wrong:
        raise ValueError(f"{given[0]}: {wrong}") from None
    try:
        name = _NAME.validate_python(said.get("name", ""))
    except ValidationError:
        raise ValueError('name: has up to 200 characters, none of < > " and no control character') from None
    cell = said.get("components", "")
    slugs = [slug for one in cell.split(";") if (slug := one.strip())]
    wanted = [components[_one_of("components", {"components": slug}, components)] for slug in slugs]
    return Entry(kind, address, name, wanted if cell else None, _one_of("language", said, languages) or None)


def _one_of(column: str, said: Mapping[str, str], allowed: Collection[str]) -> str:
    value = said.get(column, "")
    if value and value not in allowed:
        raise ValueError(f"{column}: is {value[:60]!r}; allowed are {', '.join([*allowed][:20]) or 'none'}")
    return value


def _plain(cell: str) -> str:
    """Without blanks around it, and without the mark that keeps spreadsheets from computing it."""
    cell = cell.strip()
    return cell[1:] if cell[:1] == "'" and _COMPUTED.match(cell) else cell


def written(items: Iterable[Mapping[str, Any]]) -> str:
    """Lines of subscribers as they are shown. No spreadsheet computes any cell."""
    text = io.StringIO(newline="")
    for item in items:
        wanted = item["components"]
        cells = {
            **item,
            "email" if item["kind"] == "email" else "url": item["address"],
            "components": ";"
            if wanted == []
            else ";".join(wanted or ()),  # of none that is there is not of all
            "confirmed": "yes" if item["status"] == "active" else "no",
        }
        texts = [str(cells.get(name) or "") for name in COLUMNS]
        csv.writer(text).writerow([f"'{text}" if _COMPUTED.match(text) else text for text in texts])
    return text.getvalue()
