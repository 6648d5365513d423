"""How requests reach their targets and say who asks: bodies, credentials, tokens, proxies, families, certificates."""

import asyncio
import json
import ssl
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from engine.probes.run import RunOutcome
from evaluators.model import Verdict

Play = Callable[..., RunOutcome]
URL = "http://127.0.0.1:{port}/"
HI = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


class Recorder:
    """Keeps requests as (head in lower case, body) and answers them all alike."""

    def __init__(self, answer: bytes = HI) -> None:
        self.answer, self.asked = answer, list[tuple[str, bytes]]()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
        self.asked.append((head, await reader.readexactly(int(length or 0))))
        port = str(writer.get_extra_info("sockname")[1]).encode()
        writer.write(self.answer.replace(b"{port}", port))

    def header(self, name: str, number: int = 0) -> str | None:
        """The value of a header of one request."""
        lines = [line.partition(": ") for line in self.asked[number][0].split("\r\n")]
        return next((value for key, _, value in lines if key.lower() == name), None)


def kind(outcome: RunOutcome) -> str | None:
    return outcome.failure.type if outcome.failure else None


@pytest.mark.parametrize(
    ("carried", "type_", "body"),
    [
        ({"body": "täxt"}, None, "täxt".encode()),
        ({"json": {"a": [1, "ü"]}}, "application/json", '{"a":[1,"ü"]}'.encode()),
        ({"form": {"a": "1 &", "b": "ü"}}, "application/x-www-form-urlencoded", b"a=1+%26&b=%C3%BC"),
        ({"body_base64": "AP9h"}, "application/octet-stream", b"\x00\xffa"),
        ({"body": "data:image/png;base64,AP9h"}, "image/png", b"\x00\xffa"),
        ({"body": "data:,a%20b"}, "text/plain", b"a b"),
        ({"body": "data is no URI"}, None, b"data is no URI"),
        ({"json": {"a": 1}, "headers": {"Content-Type": "application/x"}}, "application/x", b'{"a":1}'),
    ],
)
def test_every_body_is_sent_with_its_type(
    play: Play, carried: dict[str, Any], type_: str, body: bytes
) -> None:
    server = Recorder()
    assert play(server, url=URL, method="POST", **carried).verdict is Verdict.OK
    assert (server.header("content-type"), server.asked[0][1]) == (type_, body)


def test_files_are_sent_as_a_multipart_form(play: Play) -> None:
    server = Recorder()
    files = {
        "doc": {"filename": 'a"b.txt', "content": "text"},
        "bin": {"filename": "x.bin", "base64": "AP8=", "type": "image/x"},
    }
    play(server, url=URL, method="PUT", form={"k": "v"}, files=files)
    boundary = (server.header("content-type") or "").partition("boundary=")[2]
    parts = server.asked[0][1].split(b"--" + boundary.encode())
    assert parts[1] == b'\r\ncontent-disposition: form-data; name="k"\r\n\r\nv\r\n'
    assert (
        b'name="doc"; filename="a%22b.txt"\r\ncontent-type: application/octet-stream\r\n\r\ntext\r\n'
        in parts[2]
    )
    assert parts[3].endswith(b"content-type: image/x\r\n\r\n\x00\xff\r\n")
    assert parts[4] == b"--\r\n"


def test_credentials_are_sent_and_hidden(play: Play) -> None:
    server = Recorder(b"HTTP/1.1 403 No\r\ncontent-length: 23\r\n\r\ncanary7731 or dTpjYW5hcn")
    outcome = play(
        server,
        url=URL,
        auth={"basic": {"username": "u", "password": "${env:P}"}},
        environment={"P": "canary7731"},
    )
    assert server.header("authorization") == f"Basic {b64encode(b'u:canary7731').decode()}"
    assert "canary" not in repr(outcome)


def test_a_header_goes_before_auth(play: Play) -> None:
    server = Recorder()
    play(server, url=URL, auth={"bearer": "tokentoken"}, headers={"authorization": "Own x"})
    assert server.header("authorization") == "Own x"


def test_credentials_stay_behind_when_the_origin_changes(play: Play) -> None:
    server = Recorder(
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.2:{port}/\r\ncontent-length: 0\r\n\r\n"
    )
    play(server, url=URL, auth={"bearer": "tokentoken"}, redirects=1)
    assert (server.header("authorization"), server.header("authorization", 1)) == ("Bearer tokentoken", None)


def oauth(**more: Any) -> dict[str, Any]:
    one = {"token_url": "http://127.0.0.1:{other}/token", "client_id": "me", "client_secret": "s3cr3t&more"}
    return {"oauth2": {**one, **more}}


def token_server(**said: Any) -> Recorder:
    body = json.dumps(said).encode()
    return Recorder(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


def test_a_token_is_fetched_once_for_all_runs_and_is_in_no_timing(play: Play) -> None:
    tokens, server = token_server(access_token="canary7731", expires_in=3600), Recorder()
    outcome = play(server, also=tokens, url=URL, auth=oauth(scope="a b", audience="x"), copies=5)
    assert outcome.verdict is Verdict.OK
    assert len(tokens.asked) == 1
    assert tokens.header("authorization") == f"Basic {b64encode(b'me:s3cr3t%26more').decode()}"
    assert tokens.asked[0][1] == b"grant_type=client_credentials&scope=a+b&audience=x"
    assert {server.header("authorization", n) for n in range(5)} == {"Bearer canary7731"}
    assert (outcome.evidence or {"token_s": 1})["token_s"] > 0
    assert sum(t for t in (outcome.timings.dns, outcome.timings.connect) if t) < (outcome.timings.total or 0)


def test_a_token_that_is_soon_over_is_fetched_anew(play: Play) -> None:
    tokens = token_server(access_token="canary7731", expires_in=1)
    play(Recorder(), also=tokens, url=URL, auth=oauth(send="body"), copies=3)
    assert len(tokens.asked) == 3
    assert b"client_id=me&client_secret=s3cr3t%26more" in tokens.asked[0][1]


def test_a_refused_token_is_fetched_anew_by_the_next_attempt(play: Play) -> None:
    tokens = token_server(access_token="canary7731", expires_in=3600)
    outcome = play(
        Recorder(b"HTTP/1.1 401 No\r\n\r\ncanary7731"), also=tokens, url=URL, auth=oauth(), retries=1
    )
    assert (kind(outcome), len(tokens.asked)) == ("status", 2)
    assert "canary" not in repr(outcome)


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 401 No\r\ncontent-length: 27\r\n\r\n{"error":"invalid_client"  }',
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        b'HTTP/1.1 200 OK\r\n\r\n{"access_token": 7}',
        b'HTTP/1.1 200 OK\r\n\r\n{"access_token": "a\\r\\nb: c"}',
        b'HTTP/1.1 200 OK\r\n\r\n{"access_token": "' + b"x" * 9000 + b'"}',
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.2:1/\r\ncontent-length: 0\r\n\r\n",
        b"",
    ],
)
def test_no_token_is_a_failure_of_its_own(play: Play, answer: bytes) -> None:
    outcome = play(Recorder(), also=Recorder(answer), url=URL, auth=oauth())
    assert (kind(outcome), outcome.verdict) == ("auth.token", Verdict.CRITICAL)


def test_a_token_server_that_may_not_be_reached_is_told_apart(play: Play) -> None:
    auth = oauth(token_url="http://169.254.169.254/token")
    assert kind(play(Recorder(), url=URL, auth=auth)) == "egress.refused"


def test_a_token_server_that_hangs_is_told_apart(play: Play) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    assert kind(play(Recorder(), also=silent, url=URL, auth=oauth(), timeout_s=0.3)) == "auth.token"


class ForwardProxy:
    """A forward proxy that tunnels, or answers http itself; it wants no password unless it has one."""

    def __init__(self, password: str | None = None) -> None:
        self.heads: list[str] = []
        self._wanted = (
            f"proxy-authorization: Basic {b64encode(f'u:{password}'.encode()).decode()}" if password else ""
        )

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if self._wanted not in head:
            writer.write(b"HTTP/1.1 407 Who\r\ncontent-length: 0\r\n\r\n")
        elif not head.startswith("CONNECT"):
            writer.write(HI)
        else:
            host, _, port = head.split()[1].rpartition(":")
            there, out = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Go\r\n\r\n")
            await asyncio.gather(_pump(reader, out), _pump(there, writer), return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


PROXY = "http://127.0.0.1:{other}"


def test_a_proxy_is_asked_for_http_by_the_whole_url(play: Play) -> None:
    proxy = ForwardProxy("pässword")
    url = "http://name.invalid:81/p?q"  # the proxy resolves it
    outcome = play(Recorder(), also=proxy, url=url, proxy="http://u:p%C3%A4ssword@127.0.0.1:{other}")
    assert outcome.verdict is Verdict.OK
    assert proxy.heads[0].startswith("GET http://name.invalid:81/p?q HTTP/1.1\r\nhost: name.invalid:81\r\n")


def test_a_proxy_tunnels_https(play: Play, authority: trustme.CA) -> None:
    proxy, server = ForwardProxy(), Recorder()
    outcome = play(server, also=proxy, tls=serving(authority), url="https://127.0.0.1:{port}/", proxy=PROXY)
    assert outcome.verdict is Verdict.OK, outcome
    assert proxy.heads[0].startswith("CONNECT 127.0.0.1:")
    assert outcome.timings.tls


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_told_apart(play: Play, scheme: str) -> None:
    outcome = play(Recorder(), also=ForwardProxy("p"), url=f"{scheme}://127.0.0.1:{{port}}/", proxy=PROXY)
    assert kind(outcome) == "proxy.auth"


@pytest.mark.parametrize(
    ("url", "proxy", "expected"),
    [
        ("https://127.0.0.1:1/", "http://127.0.0.1:1", "proxy.connect"),
        ("https://127.0.0.1:1/", "http://name.invalid:1", "proxy.connect"),
        ("https://127.0.0.1:{port}/", "http://127.0.0.1:{port}", "proxy.refused"),
        ("http://127.0.0.1:1/", "http://169.254.169.254:80", "egress.refused"),
        ("http://169.254.169.254/", PROXY, "egress.refused"),
        ("http://2852039166/", PROXY, "egress.refused"),
    ],
)
def test_what_is_wrong_with_a_proxy_is_told(play: Play, url: str, proxy: str, expected: str) -> None:
    assert kind(play(Recorder(b"SSH-2.0\r\n"), also=ForwardProxy(), url=url, proxy=proxy)) == expected


def test_a_family_may_be_asked_for(play: Play) -> None:
    assert play(Recorder(), url="http://localhost:{port}/", ip=4).verdict is Verdict.OK
    assert kind(play(Recorder(), url=URL, ip=6)) == "dns.no_record"


def serving(authority: trustme.CA, *, asks: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "127.0.0.2").configure_cert(context)
    if asks is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        asks.configure_trust(context)
    return context


def test_our_certificate_is_shown_to_the_target_and_not_to_where_it_redirects(
    play: Play, authority: trustme.CA
) -> None:
    clients = trustme.CA()
    mine = clients.issue_cert("client.example")
    key = serialization.load_pem_private_key(mine.private_key_pem.bytes(), None)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    shown = {
        "url": "https://127.0.0.1:{port}/",
        "certificate": mine.cert_chain_pems[0].bytes().decode(),
        "key": "${env:K}",
    }
    tls = serving(authority, asks=clients)
    assert play(Recorder(), tls=tls, environment={"K": pem}, **shown).verdict is Verdict.OK
    away = Recorder(b"HTTP/1.1 302 Found\r\nlocation: https://127.0.0.2:{port}/\r\ncontent-length: 0\r\n\r\n")
    outcome = play(away, tls=tls, environment={"K": pem}, **shown)
    assert kind(outcome) in ("tls.client_certificate", "http.closed", "http.reset")  # as the server hangs up
    assert len(away.asked) == 1


def test_that_a_certificate_was_not_verified_is_in_the_evidence(play: Play) -> None:
    shown = {"url": "https://127.0.0.1:{port}/", "verify": False}
    assert play(Recorder(), tls=serving(trustme.CA()), **shown).evidence is None
    wrong = [{"of": "status", "eq": 418}]
    outcome = play(Recorder(), tls=serving(trustme.CA()), assertions=wrong, **shown)
    assert (outcome.evidence or {})["unverified"] is True


def test_each_hop_is_told_with_its_own_timings(play: Play) -> None:
    server = Recorder(b"HTTP/1.1 302 Found\r\nlocation: /again?t=canary7731\r\ncontent-length: 0\r\n\r\n")
    outcome = play(server, url=URL, redirects=2, headers={"X-T": "${env:T}"}, environment={"T": "canary7731"})
    hops = (outcome.evidence or {})["hops"]
    assert [(hop["status"], hop["address"]) for hop in hops] == [(302, "127.0.0.1")] * 2
    assert hops[1]["url"].endswith("/again?t=[redacted]")
    assert sum(hop["timings"]["ttfb"] for hop in hops) < (outcome.timings.ttfb or 0)
