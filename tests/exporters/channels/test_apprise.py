"""The apprise channel against local services, by Apprise's own plugins: what they reach, for how long, and what is said of it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from aiohttp import web
from msgspec.structs import replace
from pydantic import ValidationError

from evaluators.model import Notice
from exporters.channels import apprise
from exporters.channels.apprise import AppriseExporter, speaks_http
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from rules.address import EgressPolicy
from rules.channel import CHANNEL
from rules.channels.apprise import refusal
from tests.rig.services import Service, served

LOCAL = EgressPolicy(["127.0.0.0/8"])
NOBODY = EgressPolicy()


def exporter(*urls: str, policy: EgressPolicy = LOCAL, timeout_s: float = 30.0) -> AppriseExporter:
    return AppriseExporter(policy, urls, timeout_s=timeout_s, now_s=lambda: 1_000.0)


def of(service: Service, path: str = "token-canary") -> str:
    return f"json://{service.url.removeprefix('http://')}/{path}"


@asynccontextmanager
async def silent(*, first: bytes = b"", drip: bytes = b"", ends: bool = False) -> AsyncIterator[str]:
    """Takes connections and never ends an answer, or in the middle of it."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if ends:
            await reader.readuntil(b"}")
            done.set()
        writer.write(first)
        while drip and not writer.is_closing():
            writer.write(drip)
            await asyncio.sleep(0.05)
        await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"json://127.0.0.1:{server.sockets[0].getsockname()[1]}/token-canary"
    finally:
        done.set()
        server.close()


async def test_a_service_is_told_in_plain_words(notice: Notice) -> None:
    async with served(Service()) as service:
        assert (
            await exporter(of(service)).export(replace(notice, why=("@everyone <!channel> look",)))
            == Delivered()
        )
    (asked,) = service.asked
    assert asked.body["title"] == "🔴 Checkout API is down"
    assert asked.body["type"] == "failure"
    assert "@everyone" not in asked.body["message"]
    assert "<!channel" not in asked.body["message"]
    assert asked.body["message"].endswith("https://upbeat.example/beats/checkout-api")


@pytest.mark.parametrize(
    "url", ["json://127.0.0.1:{port}/x", "json://localhost:{port}/x", "ntfy://127.0.0.1:{port}/topic"]
)
async def test_an_address_that_the_policy_denies_is_never_reached(url: str, notice: Notice) -> None:
    async with served(Service()) as service:
        outcome = await exporter(url.format(port=service.url.rsplit(":", 1)[1]), policy=NOBODY).export(notice)
    assert service.asked == []
    assert isinstance(outcome, Rejected)
    assert "egress.allow" in outcome.reason


async def test_metadata_is_never_reached(notice: Notice) -> None:
    outcome = await exporter("json://169.254.169.254/latest").export(notice)
    assert isinstance(outcome, Rejected)
    assert "link-local" in outcome.reason


async def test_other_threads_use_requests_as_ever(notice: Notice) -> None:
    async with served(Service()) as service:
        await exporter(of(service), policy=NOBODY).export(notice)
        answer = await asyncio.to_thread(requests.post, f"{service.url}/mine", json={}, timeout=30)
    assert answer.text == "ok"
    assert [asked.path for asked in service.asked] == ["/mine"]


async def test_no_proxy_of_the_environment_is_asked(notice: Notice, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(Service()) as proxy, served(Service()) as service:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert await exporter(of(service)).export(notice) == Delivered()
        assert (len(proxy.asked), len(service.asked)) == (0, 1)


async def test_what_a_plugin_says_when_it_leaves_is_guarded_too(
    notice: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(Service()) as proxy, served(Service()) as service:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        service.instead = [web.json_response({"AccessToken": "t", "Id": "u"}), web.json_response([])]
        url = f"emby://user:pass@{service.url.removeprefix('http://')}"
        assert await exporter(url).export(notice) == Delivered()
        assert [asked.path for asked in service.asked] == [
            "/Users/AuthenticateByName",
            "/Sessions",
            "/Sessions/Logout",
        ]
        assert proxy.asked == []


async def test_an_answer_that_breaks_off_is_an_answer(notice: Notice) -> None:
    async with silent(first=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", ends=True) as url:
        assert await exporter(url).export(notice) == Delivered()


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, Delivered()),
        (429, {"Retry-After": "11"}, Retry("HTTP 429", 11.0)),
        (503, {}, Retry("HTTP 503")),
        (400, {}, Rejected("HTTP 400")),
        (410, {}, Rejected("HTTP 410: gone for good")),
        (302, {"Location": "/elsewhere"}, Rejected("HTTP 302: redirects are not followed")),
    ],
)
async def test_each_answer_of_a_service_has_its_outcome(
    status: int, headers: dict[str, str], expected: Outcome, notice: Notice
) -> None:
    async with served(Service()) as service:
        service.instead = [web.Response(status=status, headers=headers, text="theirs")]
        assert await exporter(of(service)).export(notice) == expected
        assert len(service.asked) == 1


async def test_tls_is_spoken_and_checked_over_the_guarded_connection(
    notice: Notice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    async with served(Service(), context) as service:
        url = f"jsons://localhost:{service.url.rsplit(':', 1)[1]}/x"
        assert await exporter(url).export(notice) == Retry("SSLError")
        ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        assert await exporter(url).export(notice) == Delivered()


async def test_a_service_that_took_it_is_not_told_again(notice: Notice) -> None:
    async with served(Service()) as one, served(Service()) as other:
        both = exporter(of(one), of(other))
        other.instead = [web.Response(status=500)]
        assert await both.export(notice) == Retry("HTTP 500")
        assert await both.export(notice) == Delivered()
        assert (len(one.asked), len(other.asked)) == (1, 2)


async def test_a_service_that_fails_or_hangs_keeps_nothing_from_the_others(notice: Notice) -> None:
    async with silent() as stuck, served(Service()) as failing, served(Service()) as service:
        failing.instead = [web.Response(status=500)]
        several = exporter(stuck, of(failing), of(service), timeout_s=600.0)
        telling = asyncio.create_task(several.export(notice))
        while not service.asked:
            await asyncio.sleep(0.01)
        assert not telling.done()
        telling.cancel()


async def test_waiting_for_a_turn_is_no_time_of_the_service(notice: Notice) -> None:
    async with silent() as url:
        slow = exporter(url, timeout_s=0.3)
        first = asyncio.create_task(slow.export(notice))
        second = asyncio.create_task(slow.export(replace(notice, id="ntc_2")))
        await first
        assert not second.done()
        assert await second == Retry("no answer in time")


@pytest.mark.parametrize(
    "hangs",
    [{}, {"first": b"HTTP/1.1 200 OK\r\nX-A: "}, {"first": b"HTTP/1.1 200 OK\r\n\r\n", "drip": b"x"}],
    ids=["silent", "half a head", "a body that never ends"],
)
async def test_what_never_ends_is_cut_and_its_thread_is_free_again(
    hangs: dict[str, Any], notice: Notice
) -> None:
    async with silent(**hangs) as url, served(Service()) as service:
        stuck = [exporter(url, timeout_s=0.5).export(notice) for _ in range(2 * apprise.AT_ONCE)]
        assert {*await asyncio.gather(*stuck)} == {Retry("no answer in time")}
        assert await exporter(of(service)).export(notice) == Delivered()


async def test_a_stuck_service_delays_no_other_channel(notice: Notice) -> None:
    async with silent() as url, served(Service()) as service:
        slow = asyncio.create_task(exporter(url, timeout_s=60).export(notice))
        assert await exporter(of(service)).export(notice) == Delivered()
        assert not slow.done()
        slow.cancel()


async def test_an_answer_is_read_to_a_limit(notice: Notice) -> None:
    async with served(Service()) as service:
        service.instead = [web.Response(text="x" * (8 << 20))]
        assert await exporter(of(service)).export(notice) == Delivered()


async def test_sleeping_is_not_the_services_to_ask(notice: Notice) -> None:
    async with served(Service()) as service:
        service.instead = [web.Response(status=500)]
        assert await exporter(of(service) + "?retry=5&wait=60").export(notice) == Retry("HTTP 500")
        assert len(service.asked) == 1


@pytest.mark.parametrize(
    "url", ["tgram://secret-canary", "nosuch://secret-canary", "slack://secret-canary", "json://"]
)
async def test_a_url_that_is_no_service_is_refused_and_never_shown(
    url: str, notice: Notice, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        outcome = await exporter(url).export(notice)
    assert isinstance(outcome, Rejected)
    assert "canary" not in outcome.reason + caplog.text


async def test_nothing_of_a_url_is_logged(notice: Notice, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with served(Service()) as service:
            service.instead = [web.Response(status=500)]
            for url in (of(service), of(service), "json://127.0.0.1:1/token-canary"):
                await exporter(url).export(notice)
    assert "canary" not in caplog.text


async def test_no_file_of_this_machine_is_read(notice: Notice, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"type": "message", "secret": "canary"}))
    for url, option in (
        ("workflows://127.0.0.1:9/workflow/sig/", "template"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/", "template"),
        ("tgram://123456789:abcdefghijklmnop/12345/", "template"),
    ):
        usable = apprise._plugin(apprise._library(), url)
        assert not isinstance(usable, Rejected)
        outcome = await exporter(f"{url}?{option}={tmp_path}/t.json").export(notice)
        assert outcome == apprise._UNUSABLE


async def test_no_password_of_this_machines_account_is_sent(
    notice: Notice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password canary\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with served(Service()) as service:
        assert await exporter(of(service)).export(notice) == Delivered()
    assert "Authorization" not in service.asked[0].headers


async def test_channels_that_begin_at_once_guard_the_library_once(notice: Notice) -> None:
    code = """
import asyncio, threading
from exporters.channels import apprise

def _begin(n):
    together.wait()
    apprise._told(apprise._Call(None), "nosuch://x", None, None)

together = threading.Barrier(8)
threads = [threading.Thread(target=_begin, args=(n,)) for n in range(8)]
[one.start() for one in threads]
[one.join() for one in threads]
print(apprise._library.cache_info().misses)
"""
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["1"]


async def test_every_service_is_judged_or_refused_when_it_is_saved() -> None:
    apprise._library()
    from apprise import manager_plugins

    plugins: Any = manager_plugins.NotificationManager().plugins()  # type: ignore[no-untyped-call]
    plugins = list(plugins)
    judged = {schema for plugin in plugins if speaks_http(plugin) for schema in _schemas(plugin)}
    others = {schema for plugin in plugins if not speaks_http(plugin) for schema in _schemas(plugin)}
    assert len(judged) > 150
    assert [schema for schema in sorted(judged) if refusal(f"{schema}://x")] == []
    assert [schema for schema in sorted(others - judged) if not refusal(f"{schema}://x")] == []


def _schemas(plugin: Any) -> list[str]:
    given = (plugin.protocol, plugin.secure_protocol)
    return [name for one in given if one for name in ([one] if isinstance(one, str) else one)]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mailto://u:p@example.com", "mailto:// is not allowed: use a channel of type smtp"),
        ("syslog://", "String should match"),
        ("mqtts://h.example/t", "mqtts:// is not allowed: only services reached by HTTP are"),
        ("no url", "String should match"),
    ],
)
def test_what_cannot_be_judged_is_refused_when_it_is_saved(url: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CHANNEL.validate_python({"slug": "a", "type": "apprise", "urls": [url]})


async def test_a_name_with_one_denied_address_is_refused(
    notice: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(*_: Any, **__: Any) -> Any:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 9)),
        ]

    apprise._library()
    monkeypatch.setattr(socket, "getaddrinfo", both)
    outcome = await exporter("json://two.example:9/x").export(notice)
    assert isinstance(outcome, Rejected)
    assert "10.0.0.1 is a private address" in outcome.reason


def test_it_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, upbeat.channels; print('apprise' in sys.modules, 'requests' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
