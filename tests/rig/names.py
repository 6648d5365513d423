"""A name server in the test, by UDP and TCP, and the answers it gives: right, wrong, hostile. It knows no probe."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import dnslib

Answer = Callable[[dnslib.DNSRecord], bytes | None]

ZONE = """
a.example. 5 IN A 192.0.2.1
a.example. 5 IN A 192.0.2.2
six.example. 5 IN AAAA 2001:db8::1
www.example. 0 IN CNAME a.example.
loop.example. 5 IN CNAME loop.example.
metadata.example. 5 IN A 169.254.169.254
mail.example. 5 IN MX 10 mx.example.
txt.example. 5 IN TXT "v=spf1 " "-all"
srv.example. 5 IN SRV 1 2 443 a.example.
host.corp.example. 5 IN A 192.0.2.7
1.2.0.192.in-addr.arpa. 5 IN PTR a.example.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 5 IN PTR six.example.
example. 300 IN SOA ns.example. admin.example. 7 3600 600 86400 60
example. 5 IN NS ns1.example.
example. 5 IN NS ns2.example.
example. 5 IN CAA 0 issue "ca.example"
xn--bcher-kva.example. 5 IN A 192.0.2.9
xn--strae-oqa.example. 5 IN A 192.0.2.10
strasse.example. 5 IN A 192.0.2.66
_sip._tcp.example. 5 IN SRV 1 2 5060 a.example.
"""


def zone(query: dnslib.DNSRecord, text: str = ZONE) -> dnslib.DNSRecord:
    reply, asked, kind = query.reply(), query.q.qname, query.q.qtype
    records = dnslib.RR.fromZone(text)
    names = {asked}
    for record in records:
        if record.rname in names and record.rtype in (kind, dnslib.QTYPE.CNAME):
            reply.add_answer(record)
            if record.rtype == dnslib.QTYPE.CNAME and record.rdata.label not in names:
                names.add(record.rdata.label)
                for target in records:
                    if target.rname == record.rdata.label and target.rtype == kind:
                        reply.add_answer(target)
    if all(record.rname != asked for record in records):
        reply.header.rcode = dnslib.RCODE.NXDOMAIN
    return reply


def good(query: dnslib.DNSRecord) -> bytes:
    return bytes(zone(query).pack())


def coded(rcode: int) -> Answer:
    def answer(query: dnslib.DNSRecord) -> bytes:
        reply = query.reply()
        reply.header.rcode = rcode
        return bytes(reply.pack())

    return answer


def silent(query: dnslib.DNSRecord) -> None:
    return None


def garbage(query: dnslib.DNSRecord) -> bytes:
    return bytes(query.pack()[:2]) + b"\x80\x00garbage"


def another_question(query: dnslib.DNSRecord) -> bytes:
    other = dnslib.DNSRecord.question("evil.example")
    other.header.id = query.header.id
    return bytes(other.reply().pack())


def truncated(query: dnslib.DNSRecord) -> bytes:
    reply = query.reply()
    reply.header.tc = 1
    return bytes(reply.pack())


class Name(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer, asked: list[str]) -> None:
        self.answer, self.asked = answer, asked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dnslib.DNSRecord.parse(data)
        self.asked.append(f"{query.q.qname} {dnslib.QTYPE[query.q.qtype]}")
        answer = self.answer(query)
        if answer is not None:
            self.transport.sendto(answer, addr)


@asynccontextmanager
async def name_server(
    udp: Answer, tcp: Answer = silent, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Any]:
    """Yields (port, what was asked)."""
    asked: list[str] = []

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            size = int.from_bytes(await reader.readexactly(2), "big")
            answer = tcp(dnslib.DNSRecord.parse(await reader.readexactly(size))) or b""
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(stream, host, port)
    port = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(lambda: Name(udp, asked), (host, port))
    try:
        yield port, asked
    finally:
        transport.close()
        server.close()
        await asyncio.sleep(0.01)
