"""Every language says all that English does, with the same places and the plurals of its own."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from babel import Locale

from rules.language import DEFAULT, LANGUAGES, language

_PLACE: Final = re.compile(r"\{(\w+)\}")
AT: Final = datetime(2026, 11, 21, 14, 5, tzinfo=UTC)


def _forms(text: str | Mapping[str, str]) -> Mapping[str, str]:
    return text if isinstance(text, Mapping) else {"": text}


@pytest.mark.parametrize("code", LANGUAGES)
def test_it_has_the_keys_the_places_and_the_plurals(code: str) -> None:
    spoken, english = language(code), language(DEFAULT)
    assert sorted(spoken.texts) == sorted(english.texts)
    plurals = spoken.locale.plural_form.tags | {"other"}
    for key, text in spoken.texts.items():
        model = english.texts[key]
        if isinstance(model, Mapping):
            assert set(_forms(text)) == plurals, key
        else:
            assert isinstance(text, str), key
        wanted = {place for form in _forms(model).values() for place in _PLACE.findall(form)}
        for form in _forms(text).values():
            assert set(_PLACE.findall(form)) == wanted, key
            assert form == form.strip(), key
            assert form, key


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != DEFAULT])
def test_nothing_but_names_is_left_in_english(code: str) -> None:
    spoken, english = language(code), language(DEFAULT)
    same = {key for key, text in spoken.texts.items() if text == english.texts[key]}
    assert same <= {"kind_webhook", "kind_slack", "kind_email", "contact", "said_report"} | {
        key for key in same if len(str(english.texts[key]).split()) == 1
    }


@pytest.mark.parametrize(
    ("code", "moment", "lasting", "took", "share"),
    [
        pytest.param("en", "Nov 21, 2026, 15:05 CET", "1 day 2 hr", "84 ms, 1.24 sec", "99.98%", id="en"),
        pytest.param("de", "21.11.2026, 15:05 CET", "1 Tg. 2 Std.", "84 ms, 1,24 Sek.", "99,98 %", id="de"),
        pytest.param("fr", "21 nov. 2026, 15:05 CET", "1 j 2 h", "84 ms, 1,24 s", "99,98 %", id="fr"),
        pytest.param("tr", "21 Kas 2026, 15:05 CET", "1 gün 2 sa.", "84 msn, 1,24 sn.", "%99,98", id="tr"),
    ],
)
def test_moments_durations_and_shares_are_those_of_its_land(
    code: str, moment: str, lasting: str, took: str, share: str
) -> None:
    spoken = language(code)
    berlin = ZoneInfo("Europe/Berlin")
    assert spoken.moment(AT, berlin) == moment
    assert _spaced(spoken.lasting(26 * 3600 + 59)) == lasting
    assert _spaced(f"{spoken.seconds(0.084)}, {spoken.seconds(1.238)}") == took
    assert _spaced(spoken.percent(0.99989)) == share


def test_languages_are_called_as_their_speakers_do() -> None:
    assert [language(code).name for code in ("en", "de", "fr", "tr")] == [
        "English",
        "Deutsch",
        "Français",
        "Türkçe",
    ]
    assert replace(language("en"), locale=Locale("pt", "BR")).name == "Português (Brasil)"


def _spaced(text: str) -> str:
    return re.sub(r"\s", " ", text)


def test_a_span_names_a_day_once() -> None:
    said = language("en").span(AT, AT.replace(hour=16), ZoneInfo("UTC"))
    assert said == "Nov 21, 2026, 14:05 – 16:05 UTC"
    assert language("en").span(AT, AT.replace(day=22), ZoneInfo("UTC")).count("2026") == 2


def test_no_share_is_rounded_up_to_all_of_it() -> None:
    assert language("en").percent(0.999999) == "99.99%"
    assert language("en").percent(0.57) == "57%"
    assert language("en").percent(1.0) == "100%"
