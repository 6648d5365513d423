"""No secret is in what is kept of a journey, however it came there; a trace without secrets still opens in Playwright's viewer."""

import base64
import gzip
import html
import io
import json
import re
import struct
import tracemalloc
import urllib.parse
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from html.entities import html5
from pathlib import Path

import playwright
import pytest
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from playwright.async_api import Browser

from engine.browser import redaction
from engine.browser.redaction import redacted
from engine.browser.wire import ARTIFACT_BYTES
from evaluators.observation import Artifact
from rules.secret import REDACTED, hidden_forms
from tests.rig.browser import chromium

SECRETS = (
    "plain-secret-1",
    'it\'s "quoted" & <b>bold</b>',
    "100% süß/ß+ü %41\\n",
    "日本語のパスワード🔑",
    "a/b+c=d==&e?f#g",
    "long " + "0123456789 abcdefghij " * 9,
    "\\back\\slash`tick${x}",
)


def decodings(data: bytes, depth: int = 3) -> Iterator[str]:
    """What `data` says, read in every way somebody may think of."""
    text = data.decode("utf-8", "replace")
    yield text
    if not depth:
        return
    for read in (
        urllib.parse.unquote(text),
        urllib.parse.unquote_plus(text),
        html.unescape(text),
        re.sub(r"\\+u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text),
        re.sub(r"\\+(.)", r"\1", text),
    ):
        if read != text:
            yield from decodings(read.encode("utf-8", "surrogatepass"), depth - 1)
    if depth == 3:
        for coded in re.findall(r"[A-Za-z0-9+/]{8,}", text.replace("-", "+").replace("_", "/")):
            yield base64.b64decode(coded[: len(coded) // 4 * 4]).decode("utf-8", "replace")


def parts(artifact: Artifact) -> Iterator[tuple[str, bytes]]:
    yield artifact.name, artifact.data
    if artifact.name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(artifact.data)) as archive:
            for name in archive.namelist():
                yield f"{artifact.name}/{name}", archive.read(name)


def leaks(artifact: Artifact, secrets: tuple[str, ...]) -> list[str]:
    return [
        f"{name}: {secret!r}"
        for name, data in parts(artifact)
        for said in decodings(data, 3 if len(data) < 100_000 else 2)
        for secret in secrets
        if secret.strip() in said or secret.replace("\n", "") in said
    ]


def archive_of(entries: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in entries.items():
            archive.writestr(name, body)
    return made.getvalue()


def read(artifact: Artifact | None, name: str) -> bytes:
    assert artifact is not None
    with zipfile.ZipFile(io.BytesIO(artifact.data)) as archive:
        return archive.read(name)


@pytest.fixture
async def shop() -> AsyncIterator[str]:
    """A page that says all it is told again, and asks for more with it."""

    async def say(request: web.Request) -> web.Response:
        said = [*request.query.getall("q", []), *(str(value) for value in (await request.post()).values())]
        body = "".join(
            f"<p>{html.escape(one)}</p><a href='/?q={urllib.parse.quote_plus(one)}'>x</a>" for one in said
        )
        script = (
            f"for (const s of {json.dumps(said)}) {{ console.log('said', s, encodeURIComponent(s), JSON.stringify({{s}}));"
            " fetch('/api', {method: 'POST', body: JSON.stringify({s, twice: JSON.stringify({s})}), "
            "headers: {Authorization: 'Basic ' + btoa(unescape(encodeURIComponent('me:' + s)))}}); }"
        )
        script = script.replace("</", "<\\/")
        answer = web.Response(
            text=f"<title>Shop</title><form method=post><textarea name=q></textarea><input name=r><button>Buy</button></form>"
            f"{body}<script>{script}</script>",
            content_type="text/html",
        )
        answer.set_cookie("sid", "cookie-canary-77")
        return answer

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", say)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def journey(browser: Browser, url: str, folder: Path) -> list[Artifact]:
    """What Playwright keeps of a journey in which every secret is typed, sent, said and looked for."""
    har, trace, console = folder / "har", folder / "trace", list[str]()
    context = await browser.new_context(record_har_path=har, record_har_content="embed")
    await context.tracing.start(snapshots=True, screenshots=False)
    page = await context.new_page()
    page.on("console", lambda said: console.append(said.text))
    for number, secret in enumerate(SECRETS):
        await context.tracing.group(f"pay {number}")
        await page.goto(f"{url}/?access_token=token-canary-77&q={urllib.parse.quote(secret)}")
        await page.locator("textarea").fill(secret)
        await page.locator("input").fill(secret)
        async with page.expect_response("**/api"):
            await page.get_by_role("button", name="Buy").click()
        await page.get_by_text(secret).count()
        await context.tracing.group_end()
    document = await page.content()
    await context.tracing.stop(path=trace)
    await context.close()
    return [
        Artifact("trace.zip", "", trace.read_bytes()),
        Artifact("network.har", "", har.read_bytes()),
        Artifact("page.html", "", document.encode()),
        Artifact("console.txt", "", "\n".join(console).encode()),
    ]


async def viewed(browser: Browser, trace: bytes) -> str:
    """The actions that Playwright's own viewer lists of a trace."""
    app = web.Application()

    async def send(_: web.Request) -> web.Response:
        return web.Response(body=trace, content_type="application/zip")

    app.router.add_get("/trace.zip", send)
    app.router.add_static("/", Path(playwright.__file__).parent / "driver/package/lib/vite/traceViewer")
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    here = f"http://localhost:{runner.addresses[0][1]}"
    try:
        page = await browser.new_page()
        await page.goto(f"{here}/index.html?trace={here}/trace.zip")
        await page.get_by_text("pay 0").first.wait_for(timeout=60_000)
        return await page.locator("body").inner_text()
    finally:
        await runner.cleanup()


@pytest.mark.browser
async def test_no_secret_of_a_real_journey_is_in_what_is_kept_and_its_trace_opens(
    shop: str, tmp_path: Path
) -> None:
    async with chromium() as browser:
        kept = await journey(browser, shop, tmp_path)
        before = [leaks(one, SECRETS) for one in kept]
        assert all(before), "what is looked for was never there"
        for one in kept:
            made = redacted(one, hidden_forms(SECRETS))
            assert made is not None, one.name
            assert leaks(made, (*SECRETS, "cookie-canary-77", "token-canary-77")) == []
            if one.name == "trace.zip":
                listed = await viewed(browser, made.data)
                assert all(f"pay {number}" in listed for number in range(len(SECRETS)))
                names = [name for name, _ in parts(made)]
                referred = set(
                    re.findall(rb'"(?:_file|sha1)":"(?:resources/)?([\w.@-]+)"', read(made, "trace.network"))
                )
                assert {f"trace.zip/resources/{name.decode()}" for name in referred} <= set(names)


NAMED = "resources/0123456789abcdef0123456789abcdef01234567.{}"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


ENTITIES = {letter: name for name, letter in html5.items() if name.endswith(";") and letter.strip()}
WAYS: tuple[Callable[[str], str], ...] = (
    lambda s: s,
    json.dumps,
    lambda s: json.dumps(json.dumps({"a": s}, ensure_ascii=False)),
    lambda s: json.dumps(json.dumps({"secrets": hidden_forms([s])})),
    html.escape,
    lambda s: html.escape(html.escape(s)),
    lambda s: f"<b>{s.encode('ascii', 'xmlcharrefreplace').decode()}</b>",
    urllib.parse.quote,
    lambda s: urllib.parse.quote(urllib.parse.quote(s, safe="")),
    lambda s: f"a={urllib.parse.quote_plus(s)}&b",
    repr,
    lambda s: urllib.parse.quote(json.dumps({"a": json.dumps(s)}), safe=""),
    lambda s: "".join(f"&{ENTITIES[c]}" if c in ENTITIES else c for c in s),
    lambda s: urllib.parse.quote(html.escape(json.dumps(s)), safe=""),
    lambda s: b64(json.dumps({"pw": s}, ensure_ascii=False)),
    b64,
    lambda s: b64("me:" + s),
    lambda s: b64("u:" + s) + ".",
    lambda s: base64.urlsafe_b64encode(f"user:{s}".encode()).decode(),
    lambda s: s[:-1] + "…" if len(s) > 7 else "",
)
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=8, max_size=200).filter(
    lambda text: len(text.strip()) >= 8
)


@settings(deadline=None)  # the machine may be busy
@given(TEXTS)
@example('"quo"ted"\'')
@example("line one\nline two")
@example("%25%41%zz")
@example("\\\\\\\\\\\\\\\\")
@example("&amp;&lt;&#34;")
def test_whatever_a_secret_is_it_is_found_however_it_is_written(secret: str) -> None:
    secret = secret.strip()
    said = [way(secret) for way in WAYS]
    forms = hidden_forms([secret])
    entry = {"request": {"url": "x", "postData": {"text": said}}, "response": {"content": {"text": secret}}}
    network = json.dumps({"snapshot": entry}, ensure_ascii=False)
    files = {
        "trace.zip": archive_of(
            {
                "trace.trace": b'{"type":"context-options"}',
                "trace.network": network.encode(),
                NAMED.format("html"): "\n".join(said).encode(),
                NAMED.format("png"): b"\xff\x00" + secret.encode() + b"\xff",
            }
        ),
        "network.har": json.dumps({"log": {"entries": [entry]}}).encode(),
        "page.html": "\n".join(said).encode(),
        "console.txt": "\n".join(said).encode(),
    }
    for name, data in files.items():
        made = redacted(Artifact(name, "", data), forms)
        if made is not None:  # what cannot be told is not kept at all
            assert leaks(made, (secret,)) == []


def test_a_key_of_many_lines_is_found_in_one_line_and_in_parts() -> None:
    key = "\n".join(
        ["-----BEGIN KEY-----", *(b64(f"{line:048d}") for line in range(60)), "-----END KEY-----"]
    )
    said = [key, json.dumps(key), key.replace("\n", ""), urllib.parse.quote(key), key[:1500] + "…"]
    made = redacted(Artifact("page.html", "", "\n".join(said).encode()), hidden_forms([key]))
    assert made is not None
    assert not [line for line in key.splitlines() if line.encode() in made.data]


def test_more_secrets_than_can_be_looked_for_leave_nothing() -> None:
    many = tuple(f"{n}{'!' * 195}" for n in range(1000, 1200))
    assert redacted(Artifact("page.html", "", b"<p>"), many) is None
    assert redacted(Artifact("page.html", "", b"<p>" + many[7].encode()), many[:20]) is not None


@pytest.mark.parametrize("cut", ["plain-secr", "plain-secret-…", 'say("plain-s\\u2026")', "plain-sec\ufffd"])
def test_the_beginning_of_a_secret_goes_where_the_text_was_cut_off(cut: str) -> None:
    made = redacted(Artifact("page.html", "", f"<p>{cut}".encode()), hidden_forms(SECRETS))
    assert made is not None
    assert b"plain" not in made.data


def test_headers_cookies_and_fields_that_are_called_like_a_secret_go_whatever_they_hold() -> None:
    request = {
        "url": "https://shop.example/?page=2&access_token=canary-1&next=3",
        "headers": [{"name": "X-Api-Key", "value": "canary-2"}, {"name": "Accept", "value": "text/html"}],
        "cookies": [{"name": "whatever", "value": "canary-3"}],
        "postData": {
            "text": "user=me&password=canary-4",
            "params": [{"name": "password", "value": "canary-4"}],
        },
    }
    entry = {"request": request, "response": {"content": {"text": "canary-5", "size": 8}}}
    har = redacted(Artifact("network.har", "", json.dumps({"log": {"entries": [entry]}}).encode()), ())
    assert har is not None
    assert b"canary" not in har.data
    shown = json.loads(har.data)["log"]["entries"][0]
    assert shown["request"]["url"] == f"https://shop.example/?page=2&access_token={REDACTED}&next=3"
    assert shown["request"]["headers"][1]["value"] == "text/html"
    assert shown["response"]["content"] == {"size": 8}
    field = {"html": ["INPUT", {"type": "PassWord", "id": "pin", "__playwright_value_": "canary-6"}]}
    trace = redacted(Artifact("trace.zip", "", archive_of({"trace.trace": json.dumps(field).encode()})), ())
    assert b"canary" not in read(trace, "trace.trace")


def test_a_resource_that_had_a_secret_loses_the_name_that_was_its_hash() -> None:
    body, was = b"user=me&password=plain-secret-1", "0123abcd" * 5
    said = json.dumps({"postData": {"_file": f"resources/{was}.dat"}}).encode()
    made = redacted(
        Artifact("trace.zip", "", archive_of({"trace.trace": said, f"resources/{was}.dat": body})),
        hidden_forms(SECRETS),
    )
    name = json.loads(read(made, "trace.trace"))["postData"]["_file"]
    assert was not in name
    assert read(made, name).startswith(b"user=me&password=")


def test_pictures_of_the_page_are_in_no_trace_where_there_are_secrets() -> None:
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "JPEG")
    trace = archive_of({"trace.trace": b"{}", "screencast/page@1-2.jpeg": picture.getvalue()})
    for secrets, names in (((), 2), (("plain-secret-1",), 1)):
        made = redacted(Artifact("trace.zip", "", trace), secrets)
        assert made is not None
        assert len(list(parts(made))) == names + 1


def picture(kind: str, size: tuple[int, int] = (20, 10)) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", size).save(made, kind)
    return made.getvalue()


def test_a_picture_is_kept_as_it_is_and_its_type_is_what_its_name_says() -> None:
    made = redacted(Artifact("failure.jpg", "text/html", picture("JPEG")), hidden_forms(SECRETS))
    assert made == Artifact("failure.jpg", "image/jpeg", picture("JPEG"))


def bomb(kind: int, *, says: int) -> bytes:
    """An archive of one large entry that is said to be small."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", kind) as archive:
        archive.writestr(NAMED.format("html"), bytes(12 << 20))
    data = bytearray(made.getvalue())
    struct.pack_into("<L", data, data.rindex(b"PK\1\2") + 24, says)
    return bytes(data)


BOMB = archive_of({"trace.trace": b"{}", NAMED.format("html"): bytes(redaction.MOST_UNPACKED_BYTES)})
LYING = {
    "a picture that is a page": ("failure.jpg", b"<script>alert(1)</script>"),
    "a picture of another kind": ("failure.jpg", picture("GIF")),
    "a picture too wide": ("failure.jpg", picture("JPEG", (redaction.MOST_SIDE + 1, 1))),
    "no archive": ("trace.zip", b"PK\x03\x04" + bytes(100)),
    "an archive that is cut off": ("trace.zip", archive_of({"trace.trace": b"{}"})[:-10]),
    "an archive of nothing": ("trace.zip", archive_of({})),
    "an archive without a trace": ("trace.zip", archive_of({NAMED.format("html"): b"x"})),
    "a bomb": ("trace.zip", BOMB),
    "an archive of too many": (
        "trace.zip",
        archive_of({f"resources/{n:040x}.txt": b"" for n in range(redaction.MOST_ENTRIES + 1)}),
    ),
    "a HAR that is no JSON": ("network.har", b"{"),
    "a HAR that is other JSON": ("network.har", b'{"log": [1]}'),
    "a HAR nested without end": ("network.har", b'{"log":{"entries":' + b"[" * 100_000),
    "a name that is a path": ("../failure.jpg", picture("JPEG")),
    "a name that is unknown": ("run.exe", b"MZ"),
    "a name with a line": ("failure.jpg\n", picture("JPEG")),
    "what is too large": ("page.html", bytes(ARTIFACT_BYTES + 1)),
    "nothing": ("page.html", b""),
}


@pytest.mark.parametrize("case", list(LYING))
def test_what_is_not_what_it_says_is_not_kept(case: str) -> None:
    name, data = LYING[case]
    assert redacted(Artifact(name, "image/jpeg", data), hidden_forms(SECRETS)) is None


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_is_larger_than_it_says_is_not_unpacked(kind: int) -> None:
    lying = bomb(kind, says=10)
    tracemalloc.start()
    try:
        assert redacted(Artifact("trace.zip", "", lying), ()) is None
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_line_too_long_to_be_read_at_once_is_dropped_alone() -> None:
    line = b"[" + b"{}," * (redaction.MOST_JSON_BYTES // 3) + b"0]"
    made = redacted(Artifact("trace.zip", "", archive_of({"trace.trace": b"{}\n" + line})), ())
    assert read(made, "trace.trace") == b"{}"


@pytest.mark.parametrize(
    ("body", "ending", "is_kept"),
    [
        ("plain-secret-1".encode("utf-16"), "dat", False),
        ("plain-secret-1".encode("utf-16-le"), "txt", False),
        (gzip.compress(b"plain-secret-1"), "dat", False),
        (b"\xffplain-secret-1", "png", False),
        (b"\xffa picture", "png", True),
    ],
)
def test_of_bytes_that_are_no_text_only_pictures_and_fonts_are_kept_where_there_are_secrets(
    body: bytes, ending: str, is_kept: bool
) -> None:
    trace = Artifact("trace.zip", "", archive_of({"trace.trace": b"{}", NAMED.format(ending): body}))
    for secrets, there in ((("plain-secret-1",), is_kept), ((), True)):
        made = redacted(trace, secrets)
        assert made is not None
        assert (f"trace.zip/{NAMED.format(ending)}" in dict(parts(made))) is there


@pytest.mark.parametrize("secret", ["ab cd e", "a b c d", "      x", "abc;=.", "p%2Bq+%", "(a|b)*"])
def test_a_short_secret_of_spaces_and_signs_is_found(secret: str) -> None:
    for said in (secret, json.dumps([secret]), urllib.parse.quote(secret), urllib.parse.quote_plus(secret)):
        made = redacted(Artifact("page.html", "", f"<p>{said}</p>".encode()), hidden_forms([secret]))
        if secret.strip() != "x":
            assert made is not None
            assert made.data.count(REDACTED.encode()) == 1, said


def test_a_latin_1_secret_is_found_as_a_page_writes_it_in_base64() -> None:
    coded = base64.b64encode("me:pässwörd-1".encode("latin-1"))
    made = redacted(Artifact("page.html", "", coded), hidden_forms(["pässwörd-1"]))
    assert made is not None
    assert REDACTED.encode() in made.data


@pytest.mark.parametrize(
    "url", ["/cb#access_token=canary", "/?next=%2Fcb%3Fid_token%3Dcanary", "/a;token=canary"]
)
def test_a_parameter_that_is_called_like_a_secret_goes_wherever_it_stands_in_a_url(url: str) -> None:
    made = redacted(Artifact("page.html", "", f"<a href='{url}'>".encode()), ())
    assert made is not None
    assert b"canary" not in made.data


def test_what_has_no_place_in_a_trace_is_left_out_and_a_broken_line_alone_is_dropped() -> None:
    made = redacted(
        Artifact(
            "trace.zip",
            "",
            archive_of(
                {"trace.trace": b'{"a":1}\nnonsense\n{"b":2}\n', "../../etc/passwd": b"x", "other": b"y"}
            ),
        ),
        (),
    )
    assert made is not None
    assert [name for name, _ in parts(made)] == ["trace.zip", "trace.zip/trace.trace"]
    assert read(made, "trace.trace") == b'{"a":1}\n{"b":2}'


def test_an_ordinary_page_stays_as_it_was() -> None:
    page = b"<form action='/login?next=/cart'><p>Your order of 3 keys &amp; 2 locks</p></form>"
    made = redacted(Artifact("page.html", "", page), hidden_forms(SECRETS))
    assert made is not None
    assert made.data == page
