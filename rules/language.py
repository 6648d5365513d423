"""The languages that customers are shown pages and mails in: one file of texts each. Dates and numbers are Babel's.

`rules/languages/{code}.yaml` has a text for each key of `en.yaml`; a text that depends on a number has one for each of the
plural categories of its language (CLDR: one, few, many, other). What people write is never translated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from functools import cache
from importlib import resources
from typing import Final

from babel import Locale
from babel.dates import format_date, format_skeleton
from babel.lists import format_list
from babel.numbers import format_percent
from babel.units import format_unit
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
        name = self.locale.get_display_name(self.locale) or self.code
        return name[0].upper() + name[1:]  # "português (Brasil)" keeps its other capital

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

    def span(self, begin: datetime, end: datetime, zone: tzinfo) -> str:
        """From one moment to another; the day is said once where it is the same."""
        first, last = begin.astimezone(zone), end.astimezone(zone)
        if first.date() == last.date() and first.tzname() == last.tzname():
            return f"{format_date(first, 'medium', self.locale)}, {first:%H:%M} – {last:%H:%M %Z}"
        return f"{self.moment(begin, zone)} – {self.moment(end, zone)}"

    def day(self, at: date) -> str:
        """A day in full, such as "21 November 2026"."""
        return format_date(at, "long", self.locale)

    def month(self, at: date) -> str:
        """A month and its year."""
        return format_skeleton("yMMMM", at, locale=self.locale)

    def listed(self, names: Sequence[str]) -> str:
        """Such as "Shop, Search and Mail"."""
        return format_list(names, "standard", self.locale)

    def lasting(self, seconds: float) -> str:
        """A duration in its two largest units, such as "1 hr 5 min"."""
        left, parts = int(max(seconds, 0)), list[str]()
        for unit, size_s in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
            number, left = divmod(left, size_s)
            if number or (unit == "second" and not parts):
                parts.append(format_unit(number, f"duration-{unit}", "short", locale=self.locale))
            elif parts:
                break
        return " ".join(parts[:2])

    def seconds(self, value: float) -> str:
        """What something took, such as "84 ms" or "1.24 sec"."""
        if value < 1:
            unit, number, digits = "millisecond", value * 1000, "#,##0" if value >= 0.01 else "0.#"
        else:
            unit, number, digits = "second", value, "#,##0.##"
        return format_unit(number, f"duration-{unit}", "short", digits, self.locale)

    def percent(self, share: float) -> str:
        """A share of one with two digits, never rounded up to all of it."""
        return format_percent(
            int(share * 10_000 + 1e-6) / 10_000, None, self.locale, decimal_quantization=False
        )


@cache
def language(code: str) -> Language:
    """The language with this code. Raises `KeyError` where there is none."""
    if code not in LANGUAGES:
        raise KeyError(code)
    texts = YAML(typ="safe", pure=True).load((_FOLDER / f"{code}.yaml").read_text("utf-8"))
    return Language(code, texts, Locale.parse(code, sep="-"))
