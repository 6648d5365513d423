"""A page kept as files: in a real folder, and in a bucket whose server verifies every signature by itself."""

import asyncio
import contextlib
import errno
import json
import os
import stat
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from evaluators.model import Post, Refresh
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from exporters.publishers.folder import Folder
from exporters.publishers.s3 import Bucket, signed
from exporters.static import MANIFEST, File, Rendered, StaticPublisher
from rules.publishers.s3 import S3Publisher
from tests.exporters.publishers.s3_server import (
    BUCKET,
    KEY_ID,
    REGION,
    SECRET,
    Refusal,
    S3Server,
    signature_of,
)

TELL = Refresh(1.0)
HTML = "text/html; charset=utf-8"


class Site:
    """A page as the test says that it is."""

    def __init__(self, **pages: str) -> None:
        self.pages, self.rendered = pages, 0
        self.refusal: Rejected | None = None
        self.page = "shop"

    def files(self) -> Iterable[File]:
        names = sorted(self.pages, key=lambda name: name == "index")
        return [(f"{name.replace('__', '/')}.html", self.pages[name].encode(), HTML) for name in names]

    async def render(self) -> Rendered | Rejected:
        self.rendered += 1
        return self.refusal or Rendered(self.page, f"state-{self.rendered}", iter(self.files()))


def into(folder: Path, site: Site) -> StaticPublisher:
    return StaticPublisher(Folder(str(folder)), site.render)


def there(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {MANIFEST}


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Retry | Rejected)
    return outcome.reason


# ---- a folder


async def test_a_page_is_written_and_only_what_changed_again(tmp_path: Path) -> None:
    site = Site(index="one", history="old", de__index="eins")
    publisher, folder = into(tmp_path / "www" / "status", site), tmp_path / "www" / "status"
    assert await publisher.export(TELL) == Delivered({"state": "state-1"})
    assert there(folder) == {"index.html", "history.html", "de/index.html"}
    before = (folder / "history.html").stat()
    site.pages["index"] = "two"
    await publisher.export(TELL)
    after = (folder / "history.html").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (folder / "index.html").read_text() == "two"
    assert stat.S_IMODE((folder / "index.html").stat().st_mode) & 0o444 == 0o444


async def test_what_vanished_is_taken_away_and_nobody_elses_files_are_not(tmp_path: Path) -> None:
    site = Site(index="one", incidents__a__index="gone soon")
    publisher = into(tmp_path, site)
    await publisher.export(TELL)
    (tmp_path / "robots-of-mine.txt").write_text("mine")
    del site.pages["incidents__a__index"]
    await publisher.export(TELL)
    assert there(tmp_path) == {"index.html", "robots-of-mine.txt"}
    assert not (tmp_path / "incidents").exists()


async def test_a_folder_with_anything_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    publisher = into(tmp_path, Site(index="one"))
    said = f"{tmp_path} has files that are not Upbeat's: name an empty folder"
    assert await publisher.export(TELL) == Rejected(said)
    assert (await publisher.check()).outcome == Rejected(said)
    assert there(tmp_path) == set()


async def test_two_pages_do_not_share_a_folder(tmp_path: Path) -> None:
    site, other = Site(index="one"), Site(index="two")
    other.page = "other"
    await into(tmp_path, site).export(TELL)
    said = "another page is there: each needs a place of its own"
    assert await into(tmp_path, other).export(TELL) == Rejected(said)
    assert (tmp_path / "index.html").read_text() == "one"


async def test_of_an_incident_it_is_remembered_where_it_is(tmp_path: Path) -> None:
    post = Post("p1", "open", "inc_1", "incident", "shop", "Down", "investigating", "major", 1.0, 1.0)
    outcome = await into(tmp_path, Site(index="one")).export(post)
    assert outcome == Delivered({"state": "state-1", "id": "incidents/inc_1"})


async def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "www", tmp_path / "outside"
    outside.mkdir()
    site = Site(index="one")
    publisher = into(folder, site)
    await publisher.export(TELL)
    (folder / "incidents").symlink_to(outside)
    (folder / "history.html").symlink_to(outside / "passwd")
    site.pages |= {"history": "new"}
    assert isinstance(await publisher.export(TELL), Delivered)
    assert not (folder / "history.html").is_symlink()  # replaced, not written through
    site.pages |= {"incidents__a": "new"}
    assert reason(await publisher.export(TELL)) == f"{folder}/incidents leads out of {folder}"
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("path", ["../victim", "/etc/victim", "a/../../victim", ".hidden", "a//b", ""])
async def test_a_manifest_that_was_meddled_with_takes_nothing_away(tmp_path: Path, path: str) -> None:
    (tmp_path / "victim").write_text("alive")
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / MANIFEST).write_text(json.dumps({"page": "shop", "files": {path: "x"}}))
    assert isinstance(await into(folder, Site(index="one")).export(TELL), Delivered)
    assert (tmp_path / "victim").read_text() == "alive"
    (folder / MANIFEST).write_text("[]")
    assert "not Upbeat's" in reason(await into(folder, Site(index="one")).export(TELL))


async def test_a_folder_that_cannot_be_written_is_tried_again_and_says_which(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = await into(tmp_path / "file" / "www", Site(index="one")).export(TELL)
    assert isinstance(outcome, Retry)
    assert outcome.reason == f"{tmp_path}/file/www: Not a directory"
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        outcome = await into(tmp_path / "closed" / "www", Site(index="one")).export(TELL)
        assert reason(outcome) == f"{tmp_path}/closed/www: Permission denied"


async def test_a_full_disk_is_said_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as the kernel says it: of no name

    monkeypatch.setattr(os, "fsync", full)
    said = Retry(f"{tmp_path}: No space left on device")
    assert await into(tmp_path, Site(index="one")).export(TELL) == said


async def test_what_was_cut_short_is_ours_all_the_same(tmp_path: Path) -> None:
    site = Site(index="one", b="b")

    class Ends(Folder):
        def _put(self, files: Any) -> None:
            super()._put(files)
            if files[0][0] == "b.html":
                raise KeyboardInterrupt  # as if killed: the page itself and the last manifest are missing

    ending = StaticPublisher(Ends(str(tmp_path)), site.render)
    with pytest.raises(KeyboardInterrupt):
        await ending._written(Rendered("shop", "", iter(site.files())), [], is_dry=False)
    assert there(tmp_path) == {"b.html"}
    del site.pages["b"]
    (tmp_path / "index.html.upbeat-half").write_text("of a process that was ended")
    assert isinstance(await into(tmp_path, site).export(TELL), Delivered)
    assert there(tmp_path) == {"index.html"}


class Ends(Folder):
    """Is ended after so many files were written or taken away."""

    left = 0

    def _one(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def _put(self, files: Any) -> None:
        for file in files:
            self._one()
            super()._put([file])

    def _remove(self, paths: Any) -> None:
        for path in paths:
            self._one()
            super()._remove([path])


@pytest.mark.parametrize("after", range(8))
async def test_whenever_a_writing_ends_the_next_one_makes_it_what_it_was_before(
    tmp_path: Path, after: int
) -> None:
    site = Site(index="one", b="b", gone="x")
    await into(tmp_path, site).export(TELL)
    before, site.pages = site.pages, {"index": "two", "b": "b2", "new": "n"}
    shelf = Ends(str(tmp_path))
    shelf.left = after
    with contextlib.suppress(KeyboardInterrupt):
        await StaticPublisher(shelf, site.render)._written(
            Rendered("shop", "", iter(site.files())), [], is_dry=False
        )
    assert (shelf.left < 0) == (after < 7)
    site.pages = before
    await into(tmp_path, site).export(TELL)
    assert {name: (tmp_path / name).read_text() for name in there(tmp_path)} == {
        "index.html": "one",
        "b.html": "b",
        "gone.html": "x",
    }


async def test_the_page_itself_is_written_after_what_it_leads_to(tmp_path: Path) -> None:
    order: list[str] = []

    class Seen(Folder):
        def _put(self, files: Any) -> None:
            order.extend(path for path, _, __ in files)
            super()._put(files)

    site = Site(index="one", **{f"p{n}": "x" for n in range(600)}, de__index="eins")
    await StaticPublisher(Seen(str(tmp_path)), site.render).export(TELL)
    pages = [path for path in order if path != MANIFEST]
    assert len(pages) == 602
    assert pages[-1] == "index.html"


async def test_many_who_ask_while_it_is_written_get_one_more_writing(tmp_path: Path) -> None:
    site, gate = Site(index="one"), asyncio.Event()
    publisher = into(tmp_path, site)

    async def slow() -> Rendered | Rejected:
        await gate.wait()
        return await site.render()

    publisher.render = slow
    asked = [asyncio.create_task(publisher.export(TELL)) for _ in range(5)]
    await asyncio.sleep(0)  # the first one began
    gate.set()
    outcomes = await asyncio.gather(*asked)
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    assert site.rendered == 2


async def test_a_refusal_is_not_everybodys(tmp_path: Path) -> None:
    site = Site(index="one")
    publisher = into(tmp_path, site)
    site.refusal = Rejected("the page is not public")
    assert await publisher.export(TELL) == Rejected("the page is not public")
    site.refusal = None
    assert isinstance(await publisher.export(TELL), Delivered)


async def test_who_waited_for_a_writing_that_broke_is_not_told_of_one_before(tmp_path: Path) -> None:
    site, gate = Site(index="one"), asyncio.Event()
    publisher = into(tmp_path, site)
    number = 0

    async def second_breaks() -> Rendered | Rejected:
        nonlocal number
        number += 1
        if number == 1:
            await gate.wait()
        if number == 2:
            raise ConnectionResetError
        return await site.render()

    publisher.render = second_breaks
    asked = [asyncio.create_task(publisher.export(TELL)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()
    first, second, third = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(second, ConnectionResetError)
    assert (first, third) == (Delivered({"state": "state-1"}), Delivered({"state": "state-2"}))


async def test_two_exporters_of_one_place_write_one_after_the_other(tmp_path: Path) -> None:
    site, gate, under_way = Site(index="one"), asyncio.Event(), list[int]()

    class Slow(Folder):
        async def put(self, files: Any) -> None:
            under_way.append(under_way[-1] + 1 if under_way else 1)
            await gate.wait()
            await super().put(files)
            under_way.append(under_way[-1] - 1)

    two = [StaticPublisher(Slow(str(tmp_path)), site.render) for _ in range(2)]  # as before and after an edit
    tasks = [asyncio.create_task(one.export(TELL)) for one in two]
    while not under_way:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    gate.set()
    await asyncio.gather(*tasks)
    assert max(under_way) == 1


async def test_of_two_processes_that_write_at_once_none_has_the_last_word_unnoticed(tmp_path: Path) -> None:
    old, new = Site(index="old", a="old", gone="x"), Site(index="new", a="new", more="m")
    begun, gate = asyncio.Event(), asyncio.Event()

    class Slow(Folder):
        async def put(self, files: Any) -> None:
            if files[0][0] != MANIFEST:
                begun.set()
                await gate.wait()
            await super().put(files)

    late, other = StaticPublisher(Slow(str(tmp_path)), old.render), into(tmp_path, new)
    other.lock = asyncio.Lock()  # as in another process
    task = asyncio.create_task(late.export(TELL))
    await begun.wait()
    assert isinstance(await other.export(TELL), Delivered)
    gate.set()
    assert await task == Retry("another process writes there, too")
    assert isinstance(await other.export(TELL), Delivered)
    assert {name: (tmp_path / name).read_text() for name in there(tmp_path)} == {
        "index.html": "new",
        "a.html": "new",
        "more.html": "m",
    }


async def test_an_empty_folder_behind_a_link_is_not_taken_away(tmp_path: Path) -> None:
    folder, outside = tmp_path / "www", tmp_path / "outside"
    (outside / "empty").mkdir(parents=True)
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    known = {"page": "shop", "files": {"link/empty/gone/index.html": "x"}}
    (folder / MANIFEST).write_text(json.dumps(known))
    await into(folder, Site(index="one")).export(TELL)
    assert (outside / "empty").is_dir()


async def test_a_dry_run_says_what_would_be_written_and_writes_nothing(tmp_path: Path) -> None:
    site = Site(index="one", old="x")
    publisher = into(tmp_path, site)
    await publisher.export(TELL)
    del site.pages["old"]
    site.pages |= {"index": "two"} | {f"n{n}": "x" for n in range(30)}
    report = await publisher.rehearse(None)  # type: ignore[arg-type]  # whatever it is told
    assert report.lines == ("32 files would be written or taken away, of which 20 are shown",)
    assert (report.calls[0].method, report.calls[0].path) == ("PUT", "n0.html")
    assert there(tmp_path) == {"index.html", "old.html"}
    assert (tmp_path / "index.html").read_text() == "one"
    checked = await publisher.check()
    assert (checked.outcome, checked.lines) == (Delivered(), (f"{tmp_path}: 2 files",))


# ---- a bucket


@pytest.fixture
async def s3() -> AsyncIterator[S3Server]:
    async with S3Server.running() as server:
        yield server


def rule(s3: S3Server, **more: Any) -> S3Publisher:
    spec = {
        "slug": "s",
        "type": "s3",
        "origin": "https://status.example",
        "bucket": BUCKET,
        "region": REGION,
        "endpoint": s3.url,
        "key_id": KEY_ID,
        "secret": SECRET,
    }
    return S3Publisher.model_validate(spec | more)


def bucket(session: aiohttp.ClientSession, s3: S3Server, site: Site, **more: Any) -> StaticPublisher:
    made = rule(s3, **more)
    shelf = Bucket(session, made, made.endpoint or "", (made.key_id, made.secret))
    return StaticPublisher(shelf, site.render)


async def test_a_bucket_gets_what_changed_loses_what_vanished_and_says_how_long_to_keep_it(
    session: aiohttp.ClientSession, s3: S3Server
) -> None:
    site = Site(index="one", history="h", assets__a="x")
    publisher = bucket(session, s3, site, prefix="status/shop/")
    assert await publisher.export(TELL) == Delivered({"state": "state-1"})
    assert {key.removeprefix("status/shop/") for key in s3.kept} == {
        "index.html",
        "history.html",
        "assets/a.html",
        MANIFEST,
    }
    assert s3.kept["status/shop/index.html"].headers == {
        "Content-Type": HTML,
        "Cache-Control": "public, max-age=60",
    }
    assert "immutable" in s3.kept["status/shop/assets/a.html"].headers["Cache-Control"]
    assert s3.written[-2:] == ["PUT status/shop/index.html", f"PUT status/shop/{MANIFEST}"]
    s3.asked.clear()
    await publisher.export(TELL)
    assert s3.written == []
    site.pages = {"index": "two", "history": "h"}
    await publisher.export(TELL)
    assert [said for said in s3.written if MANIFEST not in said] == [
        "PUT status/shop/index.html",
        "DELETE status/shop/assets/a.html",
    ]


async def test_a_prefix_with_anything_else_is_refused_and_one_beside_it_is_not(
    session: aiohttp.ClientSession, s3: S3Server
) -> None:
    s3.put("photos/cat.jpg")
    refused = await bucket(session, s3, Site(index="one"), prefix="photos/").export(TELL)
    assert refused == Rejected("pages/photos/ has objects that are not Upbeat's: name an empty prefix")
    assert isinstance(await bucket(session, s3, Site(index="one"), prefix="status/").export(TELL), Delivered)
    assert s3.kept["photos/cat.jpg"].body == b"x"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"secret": "wrong"}, "HTTP 403 SignatureDoesNotMatch"),
        ({"key_id": "somebody"}, "HTTP 403 InvalidAccessKeyId"),
        ({"region": "us-east-1"}, "HTTP 400 AuthorizationHeaderMalformed"),
        ({"bucket": "nowhere"}, "HTTP 404 NoSuchBucket"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_a_bucket_refuses_is_said_in_its_words(
    session: aiohttp.ClientSession, s3: S3Server, more: dict[str, str], said: str
) -> None:
    publisher = bucket(session, s3, Site(index="one"), **more)
    assert await publisher.export(TELL) == Rejected(said)
    assert (await publisher.check()).outcome == Rejected(said)


@pytest.mark.parametrize("number", range(1, 11))
async def test_whichever_request_fails_the_next_time_makes_it_right(
    session: aiohttp.ClientSession, s3: S3Server, number: int
) -> None:
    site = Site(index="one", gone="x", history="h")
    publisher = bucket(session, s3, site)
    await publisher.export(TELL)
    s3.asked.clear()
    site.pages = {"index": "two", "history": "h2", "new": "n"}
    s3.refuses = {number: Refusal(503, "SlowDown")}
    outcome = await publisher.export(TELL)
    assert outcome == Retry("HTTP 503 SlowDown") or number > 9
    s3.refuses = {}
    assert isinstance(await publisher.export(TELL), Delivered)
    assert {key: kept.body.decode() for key, kept in s3.kept.items() if key != MANIFEST} == {
        "index.html": "two",
        "history.html": "h2",
        "new.html": "n",
    }


async def test_a_manifest_that_broke_off_is_read_again_and_not_taken_for_somebody_elses(
    session: aiohttp.ClientSession, s3: S3Server
) -> None:
    publisher = bucket(session, s3, Site(index="one"))
    await publisher.export(TELL)
    s3.breaks_off = True
    assert await publisher.export(TELL) == Retry("the answer broke off")
    assert isinstance(await publisher.export(TELL), Delivered)


@pytest.mark.parametrize(
    "key",
    [
        "plain.html",
        "a b+c&d=e?f#g%h.html",
        "ünïcode/日本.html",
        "double//slash/./..x/~tilde_-.",
        "quote'\"<>(){}[]|\\^`!*@$,;:.html",
    ],
)
def test_signatures_are_botocores_whatever_the_key_is_called(key: str) -> None:
    at = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
    for url in (
        f"https://pages.s3.eu-west-1.amazonaws.com/{quote(key, safe='/-._~')}",
        f"http://127.0.0.1:9000/pages/?list-type=2&max-keys=1&prefix={quote(key, safe='')}",
    ):
        for method, body in (("PUT", b"body"), ("GET", b"")):
            headers = {"Content-Type": "text/html;  charset=utf-8", "Cache-Control": " max-age=60 "}
            sent = signed(method, url, headers, body, (KEY_ID, SECRET), "eu-west-1", at)
            said = sent.pop("authorization").rpartition("Signature=")[2]
            assert said == signature_of(method, url, sent, "eu-west-1")


async def test_a_bucket_in_the_host_name_is_asked_there(s3: S3Server) -> None:
    port = s3.url.rpartition(":")[2]

    class ToUs(aiohttp.abc.AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
            return [
                {"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}
            ]

        async def close(self) -> None:
            pass

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=ToUs())) as session:
        made = rule(s3, style="host", endpoint=f"http://s3.eu-test-1.example:{port}")
        publisher = StaticPublisher(
            Bucket(session, made, made.endpoint or "", (KEY_ID, SECRET)), Site(index="one").render
        )
        assert isinstance(await publisher.export(TELL), Delivered)
    assert "index.html" in s3.kept
