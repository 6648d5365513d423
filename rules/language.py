"""The languages that customers are shown pages and mails in: one file of texts each. Dates and numbers are Babel's.

`rules/languages/{code}.yaml` has a text for each key of `en.yaml`; a text that depends on a number has one for each of the
plural categories of its language (CLDR: one, few, many, other). What people write is never translated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from functools import cache
from importlib import resources
from typing import Final

from babel import Locale
from babel.dates import format_date, format_skeleton
from babel.numbers import format_percent
from ruamel.yaml import YAML

DEFAULT: Final = "en"
_FOLDER: Final = resources.files("rules") / "languages"
LANGUAGES: Final = (
    DEFAULT,
    *sorted(
        {file.name.removesuffix(".yaml") for file in _FOLDER.iterdir() if file.name.endswith(".yaml")}
        - {DEFAULT}
    ),
)
"""Codes of those there are."""


@dataclass(frozen=True, slots=True)
class Language:
    """One of them. Equal and hashed by its code."""

    code: str
    texts: Mapping[str, str | Mapping[str, str]] = field(compare=False, repr=False)
    locale: Locale = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """As its speakers call it."""
        return (self.locale.get_display_name(self.locale) or self.code).capitalize()

    def say(self, key: str, /, **values: object) -> str:
        """The text of `key` with its {places} filled; `count` also chooses the plural. Raises `KeyError`: a mistake of ours."""
        text = self.texts[key]
        if isinstance(text, Mapping):
            count = values["count"]
            assert isinstance(count, int)
            text = text.get(self.locale.plural_form(count)) or text["other"]
        return text.format_map(values)

    def moment(self, at: datetime, zone: tzinfo) -> str:
        """Day and time with the name of the time zone, such as "Nov 21, 2026, 14:05 UTC"."""
        there = at.astimezone(zone)
        return f"{format_date(there, 'medium', self.locale)}, {there:%H:%M %Z}"

    def day(self, at: date) -> str:
        """A day in full, such as "21 November 2026"."""
        return format_date(at, "long", self.locale)

    def month(self, at: date) -> str:
        """A month and its year."""
        return format_skeleton("yMMMM", at, locale=self.locale)

    def percent(self, share: float) -> str:
        """A share of one with two digits, never rounded up to all of it."""
        return format_percent(int(share * 10_000) / 10_000, "#,##0.##%", self.locale)


@cache
def language(code: str) -> Language:
    """The language with this code. Raises `KeyError` where there is none."""
    if code not in LANGUAGES:
        raise KeyError(code)
    texts = YAML(typ="safe", pure=True).load((_FOLDER / f"{code}.yaml").read_text("utf-8"))
    return Language(code, texts, Locale.parse(code, sep="-"))
