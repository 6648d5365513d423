"""Scripts in the form in which Playwright 1.65 records them, as browser beats: steps, what is left out, and what is a secret."""

import textwrap
from typing import Any

import pytest

from rules.kinds.browser import BrowserBeat
from rules.shape import written
from upbeat.imports.codegen import read_script, take_codegen
from upbeat.imports.draft import Draft
from upbeat.imports.source import SourceError


class Taken:
    """What comes of a script."""

    def __init__(self, script: str) -> None:
        source = read_script(script)
        self.draft = Draft(source.lines)
        take_codegen(source.value, self.draft, "shop")
        self.text, document = self.draft.document()
        self.beats = [one.spec for one in document.objects if isinstance(one.spec, BrowserBeat)]
        self.spec = written(self.beats[0])
        self.steps: list[dict[str, Any]] = self.spec["steps"]

    def notes(self) -> list[tuple[int, str]]:
        return [(note.line, note.message) for note in self.draft.notes]


LIBRARY = """\
import re
from playwright.sync_api import Playwright, sync_playwright, expect


def run(playwright: Playwright) -> None:
    browser = playwright.chromium.launch(headless=False)
    context = browser.new_context({options})
    page = context.new_page()
{lines}
    page.close()

    # ---------------------
    context.storage_state(path="auth.json")
    context.close()
    browser.close()


with sync_playwright() as playwright:
    run(playwright)
"""
ASYNC = """\
import asyncio
import re
from playwright.async_api import Playwright, async_playwright, expect


async def run(playwright: Playwright) -> None:
    browser = await playwright.chromium.launch(headless=False)
    context = await browser.new_context({options})
    page = await context.new_page()
{lines}
    await page.close()

    # ---------------------
    await context.close()
    await browser.close()


async def main() -> None:
    async with async_playwright() as playwright:
        await run(playwright)


asyncio.run(main())
"""
PYTEST = """\
import pytest
import re
from playwright.sync_api import Page, expect


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args, playwright):
    return {{"locale": "de-DE", "viewport": {{"width":800,"height":600}}}}


def test_example(page: Page) -> None:
{lines}
"""
TYPESCRIPT = """\
import {{ test, expect }} from '@playwright/test';

test.use({{
  locale: 'de-DE',
  viewport: {{
    height: 600,
    width: 800
  }}
}});

test('test', async ({{ page }}) => {{
{lines}
}});
"""
JAVASCRIPT = """\
const {{ chromium }} = require('playwright');

(async () => {{
  const browser = await chromium.launch({{
    headless: false
  }});
  const context = await browser.newContext({{
    locale: 'de-DE',
    viewport: {{ width: 800, height: 600 }}
  }});
  const page = await context.newPage();
{lines}
  await page.close();

  // ---------------------
  await context.close();
  await browser.close();
}})();
"""
OPTIONS = 'locale="de-DE", viewport={"width":800,"height":600}'
IN_PYTHON = """\
page.goto("https://shop.example/")
page.get_by_role("button", name="Accept \\"all\\"", exact=True).click()
page.get_by_role("textbox", name="E-mail").fill("me@shop.example")
page.get_by_role("textbox", name="E-mail").press("Control+a")
page.get_by_label("Size").select_option(["s", "xl"])
page.get_by_role("listitem").filter(has_text="Tea").get_by_role("button").first.click()
page.locator("iframe[name=\\"pay\\"]").content_frame.get_by_placeholder("Card").fill("4242")
page.get_by_role("checkbox", name="Newsletter").uncheck()
page.get_by_text("Buy now").nth(1).dblclick()
expect(page.get_by_test_id("total")).to_contain_text("5 €")
expect(page.get_by_label("I agree")).not_to_be_checked()
expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
expect(page).to_have_url(re.compile(r".*/done", re.IGNORECASE))
page.goto("https://shop.example/logout")
"""
IN_JAVASCRIPT = """\
await page.goto('https://shop.example/');
await page.getByRole('button', { name: 'Accept "all"', exact: true }).click();
await page.getByRole('textbox', { name: 'E-mail' }).fill('me@shop.example');
await page.getByRole('textbox', { name: 'E-mail' }).press('Control+a');
await page.getByLabel('Size').selectOption(['s', 'xl']);
await page.getByRole('listitem').filter({ hasText: 'Tea' }).getByRole('button').first().click();
await page.locator('iframe[name="pay"]').contentFrame().getByPlaceholder('Card').fill('4242');
await page.getByRole('checkbox', { name: 'Newsletter' }).uncheck();
await page.getByText('Buy now').nth(1).dblclick();
await expect(page.getByTestId('total')).toContainText('5 €');
await expect(page.getByLabel('I agree')).not.toBeChecked();
await expect(page.getByRole('heading', { name: 'Thank you' })).toBeVisible();
await expect(page).toHaveURL(/.*\\/done/i);
await page.goto('https://shop.example/logout');
"""
STEPS: list[dict[str, Any]] = [
    {"goto": "/"},
    {"click": {"role": "button", "name": 'Accept "all"', "exact": True}},
    {"fill": {"role": "textbox", "name": "E-mail", "value": "me@shop.example"}},
    {"press": {"key": "Control+a", "at": {"role": "textbox", "name": "E-mail"}}},
    {"select": {"label": "Size", "option": ["s", "xl"]}},
    {"click": {"role": "button", "nth": 0, "inside": {"role": "listitem", "has_text": "Tea"}}},
    {"fill": {"placeholder": "Card", "frame": 'iframe[name="pay"]', "value": "4242"}},
    {"check": {"role": "checkbox", "name": "Newsletter", "on": False}},
    {"click": {"text": "Buy now", "nth": 1, "times": 2}},
    {"expect": {"of": "text", "at": {"test_id": "total"}, "contains": "5 €"}},
    {"expect": {"of": "unchecked", "at": {"label": "I agree"}}},
    {"expect": {"at": {"role": "heading", "name": "Thank you"}}},
    {"expect": {"of": "url", "matches": "(?i).*/done"}},
    {"goto": "/logout"},
]


def script(flavour: str, lines: str, *, indent: int = 4, prefix: str = "", options: str = OPTIONS) -> str:
    lines = "".join(f"{prefix}{line}\n" for line in lines.splitlines())
    return flavour.format(lines=textwrap.indent(lines, " " * indent), options=options)


@pytest.mark.parametrize(
    "recorded",
    [
        pytest.param(script(LIBRARY, IN_PYTHON), id="library"),
        pytest.param(script(ASYNC, IN_PYTHON, prefix="await "), id="async"),
        pytest.param(script(PYTEST, IN_PYTHON), id="pytest"),
        pytest.param(script(TYPESCRIPT, IN_JAVASCRIPT, indent=2), id="playwright test"),
        pytest.param(script(JAVASCRIPT, IN_JAVASCRIPT, indent=2), id="javascript"),
    ],
)
def test_every_flavour_is_the_same_journey(recorded: str) -> None:
    taken = Taken(recorded)
    assert taken.steps == STEPS
    assert (taken.spec["slug"], taken.spec["url"], taken.spec["locale"]) == (
        "shop",
        "https://shop.example",
        "de-DE",
    )
    assert taken.spec["viewport"] == {"width": 800, "height": 600}
    assert taken.notes() == []


def library(*lines: str, options: str = "") -> Taken:
    return Taken(script(LIBRARY, "\n".join(('page.goto("https://shop.example/")', *lines)), options=options))


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ('page.get_by_title("x").hover()', {"hover": {"title": "x"}}),
        ('page.get_by_alt_text("Logo").click(button="right")', {"click": {"alt": "Logo", "button": "right"}}),
        (
            'page.frame_locator("#a").frame_locator("#b").get_by_test_id("x").click()',
            {"click": {"test_id": "x", "frame": "#b", "inside": {"css": "html", "frame": "#a"}}},
        ),
        ('page.locator("#a").locator(".b").last.check()', {"check": {"css": ".b", "nth": -1, "inside": {"css": "#a"}}}),
        ('expect(page.get_by_label("x")).to_be_empty()', {"expect": {"of": "value", "at": {"label": "x"}, "empty": True}}),
        ('expect(page.get_by_role("row")).to_have_count(3)', {"expect": {"of": "count", "at": {"role": "row"}, "eq": 3}}),
        ('expect(page).not_to_have_title("x")', {"expect": {"of": "title", "eq": "x", "not": True}}),
        ('expect(page.get_by_text("x")).not_to_be_visible()', {"expect": {"of": "hidden", "at": {"text": "x"}}}),
        ('page.wait_for_url("**/done")', {"wait": {"url": "**/done"}}),
        ('page.wait_for_load_state("networkidle")', {"wait": {"load": "networkidle"}}),
        ("page.wait_for_timeout(1500)", {"wait": {"duration": "1.5s"}}),
        ('page.get_by_text("x").wait_for(state="hidden")', {"wait": {"hidden": {"text": "x"}}}),
        ('page.get_by_text("x").click(timeout=5000)', {"click": {"text": "x"}, "timeout": "5s"}),
        ('page.keyboard.press("Enter")', {"press": {"key": "Enter"}}),
        ('page.screenshot(path="out/Cart 1.png")', {"screenshot": "cart-1"}),
    ],
)  # fmt: skip
def test_a_line_becomes_a_step(line: str, step: dict[str, Any]) -> None:
    taken = library(line)
    assert taken.steps[1:] == [step]
    assert taken.notes() == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("page1 = context.new_page()", "a page that is not opened by the site is left out: page1 ="),
        ("page.go_back()", "go_back, which no step does, is left out: page.go_back()"),
        ('page.get_by_role("x").click()', "no ARIA role"),
        ('page.get_by_role("heading", level=1).click()', "get_by_role so, which is in no locator"),
        ('page.locator("xpath=//a").click()', "what is not found by CSS is left out"),
        ('page.get_by_text(re.compile("a.*b")).click()', "a regular expression, which is in no locator"),
        ('page.get_by_label("x").fill(NAME)', "what is not written out is left out"),
        ('expect(page.locator("body")).to_match_aria_snapshot("- x")', "to_match_aria_snapshot, which is nothing to"),
        ("for _ in range(3):\n    page.goto('/')", "what does not go straight on is left out: for _ in range(3):"),
        ('page.get_by_label("x").press("Entr")', "what no step takes ('Entr' is no key; did you mean Enter?)"),
    ],
)  # fmt: skip
def test_what_no_step_does_is_named_with_its_line(line: str, said: str) -> None:
    taken = library(line)
    assert len(taken.steps) == 1
    ((where, told),) = taken.notes()
    assert said in told
    assert where == 10


POPUP = """\
with page.expect_popup() as page1_info:
    page.get_by_role("link", name="Terms").click()
page1 = page1_info.value
page1.get_by_text("Read").click()
page.get_by_text("Too early").click()
page1.close()
page.get_by_text("Back").click()
"""
JAVASCRIPT_POPUP = """\
await page.goto('https://shop.example/');
const page1Promise = page.waitForEvent('popup');
await page.getByRole('link', { name: 'Terms' }).click();
const page1 = await page1Promise;
await page1.getByText('Read').click();
await page.getByText('Too early').click();
await page1.close();
await page.getByText('Back').click();
"""


@pytest.mark.parametrize(
    "taken",
    [
        pytest.param(library(POPUP), id="python"),
        pytest.param(Taken(script(TYPESCRIPT, JAVASCRIPT_POPUP)), id="javascript"),
    ],
)
def test_a_journey_is_on_the_newest_page(taken: Taken) -> None:
    clicked = [{"role": "link", "name": "Terms"}, {"text": "Read"}, {"text": "Back"}]
    assert taken.steps[1:] == [{"click": at} for at in clicked]
    first, second = (message for _, message in taken.notes())
    assert first.startswith("what is done on another page than the newest is left out: ")
    assert second == "goes back only where the site closes page1 itself"


def test_passwords_are_not_copied() -> None:
    taken = library(
        'page.get_by_role("textbox", name="Password").fill("hunter2!")',
        'page.goto("https://me:open-sesame@shop.example/?token=abcdef")',
        options='http_credentials={"username": "me", "password": "correct horse"}',
    )
    assert taken.steps[1]["fill"]["value"] == "${env:SHOP_PASSWORD_2}"
    for secret in ("hunter2!", "open-sesame", "abcdef", "correct horse"):
        assert secret not in taken.text
    assert sum("is a secret, which is not copied" in told for _, told in taken.notes()) == 4


def test_as_whom_it_is_done_is_taken_and_what_has_no_counterpart_named() -> None:
    taken = library(
        'page.once("dialog", lambda dialog: dialog.accept())',
        'page.get_by_label("Photo").set_input_files("pictures/me.jpg")',
        options='**playwright.devices["iPhone 13"], color_scheme="dark", base_url="https://shop.example", '
        'geolocation={"latitude":52.5,"longitude":13.4}, permissions=["geolocation"], timezone_id="Europe/Berlin", '
        'ignore_https_errors=True, storage_state="auth.json"',
    )
    assert taken.spec["device"] == "phone"
    assert taken.spec["geolocation"] == {"latitude": 52.5, "longitude": 13.4}
    assert (taken.spec["timezone"], taken.spec["verify"], taken.spec["dialogs"]) == (
        "Europe/Berlin",
        False,
        "accept",
    )
    assert taken.steps[1] == {"upload": {"label": "Photo", "files": [{"name": "me.jpg"}]}}
    named = {note.path for note in taken.draft.notes}
    assert named == {"device", "color_scheme", "storage_state", "steps[1]"}


def test_each_test_of_a_file_is_a_beat() -> None:
    one = 'def test_{0}(page: Page) -> None:\n    page.goto("https://shop.example/{0}")\n\n'
    taken = Taken("from playwright.sync_api import Page\n\n" + one.format("cart") + one.format("pay"))
    assert [beat.slug for beat in taken.beats] == ["shop-cart", "shop-pay"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "using Microsoft.Playwright;\nawait page.GotoAsync('x');",
            "record with `playwright codegen --target python`",
        ),
        ("(" * 100_000, "neither Python nor JavaScript"),
        ("print('hello')\n", "it opens no page"),
        ("import { test } from '@playwright/test';\n", "it opens no page"),
    ],
)
def test_what_is_no_recorded_script_is_refused(text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        Taken(text)


@pytest.mark.parametrize(
    "line",
    [
        'page.wait_for_timeout("x")', 'page.get_by_text("x").click(timeout="5s")', "page.goto(5)", 'page.goto(b"https://x.example")',
        "page.goto([])", 'page.get_by_text("x").wait_for(state=[])', "page.screenshot(path=5)", "page.get_by_text(re.compile(5)).click()",
        "page.get_by_text(None).click()", "page.get_by_text(f'{x}').click()", "page.wait_for_timeout(1e999)", "page.nowhere",
        "page" + ".first" * 250 + ".go()", "context = browser.new_context(geolocation=5)", "page2 = browser.new_page(base_url='http://[')",
        'context = browser.new_context(http_credentials="x")', "context = browser.new_context(extra_http_headers=[1])",
        "context = browser.new_context(**playwright.devices[5])", 'context = browser.new_context(viewport="wide")',
    ],
)  # fmt: skip
def test_what_is_written_otherwise_than_it_is_recorded_is_named(line: str) -> None:
    taken = library(line)
    assert taken.steps == [{"goto": "/"}]
    assert {where for where, _ in taken.notes()} == {10}


@pytest.mark.parametrize(
    ("lines", "clicked", "named"),
    [
        ("if (a) {\n  await page.getByText('a').click();\n}\nawait page.getByText('b').click();", ["b"], [5]),
        ("for (const a of [1]) { await page.goBack(); }\nawait page.getByText(`${a}`).click();", [], [5, 6]),
        ("await page.getByText('a').click()\nawait page\n  .getByText('b')\n  .click()", ["a", "b"], []),
        ("await page.getByText('a').click()\r\nawait page.goBack();\r\n", ["a"], [6]),
        ("// don't\nawait page.getByText('// (no /* \\' c').click(); /* ' */", ["// (no /* ' c"], []),
        ("await page.getByText('a').click();\nawait page.getByText('b", ["a"], [6]),
    ],
)
def test_javascript_is_taken_line_by_line_or_named(lines: str, clicked: list[str], named: list[int]) -> None:
    taken = Taken(
        script(TYPESCRIPT, "x", indent=2).replace(
            "  x", "await page.goto('https://shop.example/');\n" + lines
        )
    )
    assert [step["click"]["text"] for step in taken.steps[1:]] == clicked
    assert [line for line, _ in taken.notes()] == [line + 8 for line in named]


def test_an_answer_that_is_looked_at_is_a_step_all_the_same() -> None:
    assert library('answer = page.goto("https://shop.example/cart")').steps[1:] == [{"goto": "/cart"}]


def test_of_a_long_recording_the_first_hundred_steps_are_taken() -> None:
    taken = library(*["page.get_by_text('x').click()"] * 200)
    assert len(taken.steps) == 100
    assert [(line, said[:40]) for line, said in taken.notes()] == [
        (109, "all that comes after 100 steps is left o")
    ]


@pytest.mark.parametrize(
    "piece", ["'", "'\\\\'", "(", "(/", "/*", "=>{", "a.", "A", "`", "page.a('b');", "\n", ";"]
)
def test_long_odd_javascript_is_read_once(piece: str) -> None:
    odd = "await page.goto('https://shop.example/');\n" + piece * (200_000 // len(piece))
    assert Taken(TYPESCRIPT.format(lines=odd)).steps == [{"goto": "/"}]


def test_credentials_of_a_base_url_are_not_copied() -> None:
    taken = library('page.goto("/cart")', options='base_url="https://me:open-sesame@shop.example/"')
    assert taken.spec["url"] == "https://shop.example/"
    assert "open-sesame" not in taken.text


def test_a_script_is_never_run() -> None:
    with pytest.raises(SourceError):
        Taken("raise SystemExit(1)\n")
    taken = library("page.get_by_label(__import__('os').getcwd()).click()")
    assert taken.notes()[0][1].startswith("what is not written out is left out")
