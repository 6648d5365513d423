"""What operators write of journeys: short forms, lists, captures, what is secret, and the check that comes of them."""

from base64 import b64encode
from typing import Any

import pytest
from pydantic import ValidationError

from engine.subject import measures_digest
from evaluators.assess import assess
from evaluators.model import Timings, Verdict
from evaluators.observation import Observation, StepSeen
from rules.check import compile_check
from rules.config import ConfigError, parse
from rules.export import dump
from rules.journey import Journey, named
from rules.kinds.browser import BrowserBeat, BrowserCheck
from rules.locator import Locator
from rules.secret import UnsetReferenceError
from rules.settings import Settings
from rules.shape import written

ENVIRONMENT = {"env:PASSWORD": "correct horse", "env:HOST": "shop.example", "env:SENTENCE": "two words"}


def beat(**keys: Any) -> BrowserBeat:
    steps = {} if "script" in keys else {"steps": [{"goto": "/"}]}
    return BrowserBeat.model_validate(
        {"slug": "shop", "type": "browser", "url": "https://shop.example", **steps, **keys}
    )


def compiled(**keys: Any) -> BrowserCheck:
    check = compile_check(beat(**keys), ENVIRONMENT)
    assert isinstance(check, BrowserCheck)
    return check


def done(step: dict[str, Any]) -> dict[str, Any]:
    """A step as it is stored."""
    return written(beat(steps=[{"goto": "/"}, step]))["steps"][1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ({"click": "Buy"}, {"click": {"text": "Buy"}}),
        ({"check": "I agree"}, {"check": {"label": "I agree"}}),
        ({"press": "Enter"}, {"press": {"key": "Enter"}}),
        ({"wait": "2s"}, {"wait": {"duration": "2s"}}),
        ({"wait": 2}, {"wait": {"duration": "2s"}}),
        ({"expect": "Thank you"}, {"expect": {"at": {"text": "Thank you"}}}),
        ({"hover": {"css": "a", "inside": "Menu"}}, {"hover": {"css": "a", "inside": {"text": "Menu"}}}),
    ],
)
def test_a_text_alone_is_short_for_what_is_meant_most(short: dict[str, Any], whole: dict[str, Any]) -> None:
    assert done(short) == whole == done(whole)


@pytest.mark.parametrize("key", ["a", "+", "Control++", "Control+Shift+A", "F5", " ", "ControlOrMeta+Enter"])
def test_keys_are_those_of_a_keyboard(key: str) -> None:
    assert done({"press": key}) == {"press": {"key": key}}


@pytest.mark.parametrize(
    ("locator", "said"),
    [
        ({"role": "button", "name": "Buy now"}, 'button "Buy now"'),
        ({"test_id": "total", "nth": -1}, 'test id "total" number -1'),
        (
            {"text": "Add", "inside": {"role": "listitem", "has_text": "Tea"}},
            'text "Add" inside listitem with "Tea"',
        ),
        ({"css": "b", "frame": "#pay", "inside": "Order"}, 'css "b" in frame #pay inside text "Order"'),
    ],
)
def test_a_locator_is_read_as_people_say_it(locator: dict[str, Any], said: str) -> None:
    assert str(Locator.model_validate(locator)) == said


def test_lists_are_taken_apart_in_their_place() -> None:
    journey = Journey.model_validate(
        {
            "url": "https://shop.example",
            "lists": {
                "open": [{"goto": "/"}, {"use": "consent"}],
                "consent": [{"name": "agree", "click": "OK"}],
            },
            "steps": [{"use": "open"}, {"click": "Buy"}],
            "teardown": [{"goto": "/logout"}],
        }
    )
    steps = [(one.name, one.is_teardown) for one in named(journey)]
    assert steps == [("goto-1", False), ("agree", False), ("click-3", False), ("goto-4", True)]
    assert journey.begins == "https://shop.example"


def test_lists_that_multiply_are_refused_before_they_grow() -> None:
    lists = {f"l{n}": [{"use": f"l{n + 1}"}] * 10 for n in range(9)} | {"l9": [{"goto": "/"}] * 10}
    with pytest.raises(ValidationError, match="at most 100 steps, those of lists included"):
        beat(lists=lists, steps=[{"use": "l0"}])
    with pytest.raises(ValidationError, match="should have at least 1 item"):
        beat(lists=lists | {"l9": []}, steps=[{"use": "l0"}])


def test_teardown_may_name_what_any_step_stores() -> None:
    steps = [{"goto": "/"}, {"store": {"name": "order", "of": "url"}}]
    beat(steps=steps, teardown=[{"goto": "/cancel/${capture:order}"}], publish=["order"])
    with pytest.raises(ValidationError, match="captured by nothing before it; there are: order"):
        beat(steps=steps, teardown=[{"goto": "/cancel/${capture:oder}"}])


def test_what_is_stored_as_a_secret_once_is_not_published() -> None:
    once = {"store": {"name": "order", "of": "url"}}
    steps = [{"goto": "/"}, {"store": {"name": "order", "of": "url", "secret": True}}, once]
    with pytest.raises(ValidationError, match="order is no capture that may be shown"):
        beat(steps=steps, publish=["order"])


@pytest.mark.parametrize(
    "url",
    ["/", "/a?b=c#d", "https://other.example/x", "${capture:link}", "https://shop.example/${capture:link}"],
)
def test_goto_takes_addresses_and_paths(url: str) -> None:
    steps = [{"goto": "/"}, {"store": {"name": "link", "of": "url"}}, {"goto": url}]
    assert beat(steps=steps).steps[2].goto == url


@pytest.mark.parametrize(
    "url", ["cart", "//other.example", "javascript:alert(1)", "data:text/html,x", "about:blank", "${else}"]
)
def test_goto_takes_nothing_else(url: str) -> None:
    with pytest.raises(ValidationError, match=r"is neither an http or https URL nor a path|is not an http"):
        beat(steps=[{"goto": "/"}, {"goto": url}])


def test_references_are_replaced_and_hidden_wherever_they_stand() -> None:
    check = compiled(
        url="https://${env:HOST}/",
        lists={"login": [{"fill": {"label": "Password", "value": "${env:PASSWORD}"}}]},
        steps=[{"goto": "/"}, {"use": "login"}],
    )
    assert check.journey["lists"]["login"][0]["fill"]["value"] == "correct horse"
    assert check.host == "shop.example"
    assert {"correct horse", "correct%20horse", "shop.example"} <= set(check.secrets)
    Journey.model_validate(check.journey)


def test_what_is_called_like_a_secret_is_hidden_in_the_clear_too() -> None:
    pair = b64encode(b"me:open sesame").decode()
    check = compiled(
        headers={"Authorization": "Bearer abcdef123", "X-Shop": "ordinary"},
        auth={"basic": {"username": "me", "password": "open sesame"}},
        steps=[
            {"goto": "/"},
            {"fill": {"label": "Your password", "value": "hunter2!"}},
            {"fill": {"css": "input[type=password]", "value": "hunter3!"}},
            {"fill": {"label": "Name", "value": "Somebody"}},
        ],
    )
    assert {"abcdef123", "open sesame", pair, "hunter2!", "hunter3!"} <= set(check.secrets)
    assert not {"ordinary", "Somebody", "me"} & set(check.secrets)


def test_a_replaced_value_that_is_not_allowed_is_not_told() -> None:
    with pytest.raises(ValueError, match=r"^steps.1.goto is not allowed once its reference is replaced$"):
        compiled(steps=[{"goto": "/"}, {"goto": "https://${env:SENTENCE}/"}])
    with pytest.raises(UnsetReferenceError):
        compiled(steps=[{"goto": "https://${env:NOWHERE}/"}])


def test_a_script_is_read_and_never_run() -> None:
    text = "async def journey(page, context, values, step):\n    await page.goto(values['url'])\n"
    check = compiled(script=text, values={"url": "https://${env:HOST}", "api_key": "in the clear"})
    assert check.is_script
    assert check.journey["values"]["url"] == "https://shop.example"
    assert "in the clear" in check.secrets
    with pytest.raises(ValidationError, match="script is not Python"):
        beat(script="(" * 20_000)
    beat(script=text + '    values["pattern"] = "\\d"\n')


def test_the_teardown_has_a_share_of_the_time_that_nothing_takes() -> None:
    assert compiled(timeout=60).shares_s == (55.0, 0.0)
    assert compiled(timeout=60, teardown=[{"goto": "/logout"}]).shares_s == (41.25, 13.75)
    assert sum(compiled(timeout=1, teardown=[{"goto": "/logout"}]).shares_s) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"click": "a", "degraded_after": "20s"}, "whose degraded_after 20s is longer than step_timeout 15s"),
        (
            {"click": "a", "degraded_after": "9s", "timeout": "5s"},
            "degraded_after 9s is longer than its timeout 5s",
        ),
        ({"wait": "9s", "timeout": "5s"}, "whose wait 9s is longer than its timeout 5s"),
    ],
)
def test_no_step_is_to_take_longer_than_it_may(step: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        beat(steps=[{"goto": "/"}, step])
    beat(steps=[{"goto": "/"}, step | {"timeout": "20s"}, {"wait": "30s", "degraded_after": "40s"}])


def test_a_slow_step_is_a_warning() -> None:
    check = compiled(
        degraded_after="20s", steps=[{"goto": "/"}, {"name": "pay", "click": "Pay", "degraded_after": "2s"}]
    )
    seen = Observation(timings=Timings(total=5.0), steps=[StepSeen("pay", None, Timings(total=1.9))])
    assert assess(check, seen)[0] is Verdict.OK
    seen.steps = [replace_total(seen.steps[0], 2.5)]
    verdict, outcomes, failure = assess(check, seen)
    assert (verdict, outcomes) == (Verdict.WARNING, ())
    assert failure is not None
    assert (failure.type, failure.message) == ("degraded", "step pay took 2.5 s; degraded after 2 s")
    seen.steps = []  # it was not come to
    assert assess(check, seen)[0] is Verdict.OK


def replace_total(step: StepSeen, total_s: float) -> StepSeen:
    return StepSeen(step.name, step.status, Timings(total=total_s))


def test_what_is_kept_of_runs_does_not_change_what_is_measured() -> None:
    plain, kept = beat(), beat(evidence={"keep": "always"})
    assert measures_digest(written(plain)) == measures_digest(written(kept))
    assert measures_digest(written(plain)) != measures_digest(written(beat(device="phone")))


LISTS = """\
lists:
  login:
    - fill: {label: E-mail, value: me@shop.example}
    - use: send
  send: [{click: {role: button, name: Send}}]
  other: [{click: Elsewhere}]
beats:
  - slug: shop
    type: browser
    url: https://shop.example
    lists: {pay: [{use: send}]}
    steps: [{goto: /}, {use: login}, {use: pay}]
  - {slug: api, type: http, url: https://shop.example/api}
"""


def test_a_beat_takes_the_lists_of_its_file_that_it_uses_so_that_it_is_whole() -> None:
    document = parse(LISTS, "upbeat.yaml", {})
    shop = next(one.spec for one in document.objects if one.slug == "shop")
    assert isinstance(shop, BrowserBeat)
    assert sorted(shop.lists) == ["login", "pay", "send"]
    assert [one.name for one in named(shop)] == ["goto-1", "fill-2", "click-3", "click-4"]
    again = parse(dump(document.objects, Settings()), "upbeat.yaml", {})
    assert {one.slug: one.spec for one in again.objects} == {one.slug: one.spec for one in document.objects}


def test_a_list_of_the_beat_goes_before_one_of_the_file() -> None:
    text = LISTS.replace("lists: {pay:", "lists: {send: [{click: Mine}], pay:")
    shop = next(one.spec for one in parse(text, "upbeat.yaml", {}).objects if one.slug == "shop")
    assert isinstance(shop, BrowserBeat)
    assert [str(step.click) for step in shop.lists["send"]] == ['text "Mine"']


@pytest.mark.parametrize("use", ["[send]", "{send: 1}", "7"])
def test_what_is_used_is_called_by_a_name(use: str) -> None:
    with pytest.raises(ConfigError, match=r"upbeat.yaml:12: beats\[0\].steps\[1\].use: .* is not text"):
        parse(LISTS.replace("{use: login}", f"{{use: {use}}}"), "upbeat.yaml", {})
    parse("lists:\nbeats: []\n", "upbeat.yaml", {})
