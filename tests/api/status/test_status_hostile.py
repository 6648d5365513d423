"""Two hundred attacks as title, text, update and report of incidents, plain and in Markdown: on the public page nothing of them runs."""

from typing import TYPE_CHECKING

import pytest

from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id
from tests.api.console.conftest import WATCH
from tests.api.console.test_console_hostile import PAYLOADS
from tests.rig.browser import chromium

if TYPE_CHECKING:
    from tests.api.conftest import Server

pytestmark = pytest.mark.browser

_MARKED = (
    "[x](javascript:xss())",
    "[x](JaVaScRiPt:xss())",
    "[x](java&#x09;script:xss())",
    "[x](java\tscript:xss())",
    "[x](&#106;avascript:xss())",
    "[x](javascript&colon;xss())",
    "[x](\x01javascript:xss())",
    "[x](  javascript:xss())",
    "[x](<javascript:xss()>)",
    "[x](vbscript:xss())",
    "[x](data:text/html;base64,PHNjcmlwdD54c3MoKTwvc2NyaXB0Pg==)",
    "[x](file:///etc/passwd)",
    "[x](//evil.example/)",
    "[x](/console)",
    '[x](https://e.example/" onmouseover="xss())',
    '[x](https://e.example/ "a" onmouseover=xss())',
    "[x](https://e.example/ '\"><script>xss()</script>')",
    "[<img src=x onerror=xss()>](https://e.example/)",
    '[![x](x" onerror="xss())](https://e.example/)',
    "![x](javascript:xss())",
    "![x](https://evil.example/x.png)",
    '![" onerror="xss()](x)',
    "![x](x 'a\" onerror=\"xss()')",
    "<javascript:xss()>",
    '<https://e.example/"onmouseover="xss()>',
    '<x@e.example"onmouseover=xss()>',
    "[x]: javascript:xss()\n\n[x]",
    '[x]: <https://e.example/> "\'><script>xss()</script>"\n\n[x]',
    "```html\n<script>xss()</script>\n```",
    '```"><script>xss()</script>\nx\n```',
    '```x" onload="xss()\nx\n```',
    "    <script>xss()</script>",
    "`<script>xss()</script>`",
    "<div>\n<script>xss()</script>\n</div>",
    "<!-- --><script>xss()</script>",
    "<?php ?><script>xss()</script>",
    "<pre><script>xss()</script></pre>",
    "# <script>xss()</script>\n",
    "> <img src=x onerror=xss()>",
    "- <img src=x onerror=xss()>",
    "~~<img src=x onerror=xss()>~~",
    "a\n<script>xss()</script>\n===",
    "| <img src=x onerror=xss()> |\n|-|\n| x |",
    "&lt;img src=x onerror=xss()&gt;",
    "\\<script>xss()\\</script>",
    '<a href="https://e.example/" style="position:fixed;inset:0">x</a>',
    "<p style=x:expression(xss())>",
    "<svg/onload=xss()//",
    "<math href=javascript:xss()>x",
    "<a\nhref=javascript:xss()>x",
    "__proto__[x](javascript:xss())",
    "[x](https://e.example/?a=1&amp;b=<script>xss()</script>)",
)
_AROUND = ("{}", "**{}**", "[x]({})", "[{}](https://e.example/)", "![x]({})", "<{}>")
ATTACKS = [*_MARKED, *(around.format(payload) for around in _AROUND for payload in PAYLOADS)]
FOUND = """() => ({
  titles: document.querySelectorAll("#past article > .head h4").length,
  scripts: [...document.querySelectorAll("main script, main iframe, main object, main embed, main img, main style, main link, main meta, main base, main form")].map(e => e.outerHTML),
  handlers: [...document.querySelectorAll("*")].filter(e => [...e.attributes].some(a => a.name.startsWith("on") || a.name === "style")).map(e => e.outerHTML),
  links: [...new Set([...document.querySelectorAll("article .prose a")].map(e => e.protocol + " " + e.rel))].sort(),
})"""


async def test_attacks_in_all_that_customers_read_are_text(server: "Server") -> None:
    assert len(ATTACKS) >= 200
    now = server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        slug = f"h-{new_id().hex[-8:]}"
        page = await objects.create(db, Actor("t", "api"), "page", None, {"slug": slug, "name": "Hostile"})
        for attack in ATTACKS:
            incident = new_id()
            await db.execute(
                "INSERT INTO incidents (id, page_id, title, status, components, created_at, resolved_at, report, "
                "report_status, report_at) VALUES ($1, $2, $3, 'resolved', '{}', to_timestamp($4), to_timestamp($4), $3, "
                "'published', to_timestamp($4))",
                incident,
                page.id,
                attack,
                now - 1,
            )
            for status, is_markdown in (("investigating", False), ("resolved", True)):
                await db.execute(
                    "INSERT INTO updates (id, incident_id, status, text, components, at, by, is_markdown) "
                    "VALUES ($1, $2, $3, $4, '{}', to_timestamp($5), 't', $6)",
                    new_id(),
                    incident,
                    status,
                    attack,
                    now - 1,
                    is_markdown,
                )
    async with chromium() as browser:
        context = await browser.new_context()
        await context.add_init_script(WATCH)
        tab = await context.new_page()
        await tab.goto(f"{server.url}/p/{slug}")
        await tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        found = await tab.evaluate(FOUND)
        assert found["titles"] == len(ATTACKS)
        assert found["scripts"] == []
        assert found["handlers"] == []
        assert found["links"] == ["https: nofollow noopener"]
        assert await tab.evaluate("window.attacks") == []
