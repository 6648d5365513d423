"""What one attempt saw, whatever its protocol: filled in by a probe, judged by `evaluators.assess`. Judges nothing itself."""

import re
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from evaluators.model import Failure, Outcome, Timings

# Python has codecs that are quadratic or no text at all, so only known names are taken from a stranger.
_CHARSET = re.compile(
    r"charset\s*=\s*[\"']?((?:utf-?(?:8|16|32)(?:-?[lb]e)?|us-ascii|ascii|latin-?\d+|iso-?8859-\d+|windows-\d+|cp\d+"
    r"|koi8-?[rtu]|shift[_-]?jis|euc[_-]?(?:jp|kr)|gb2312|gbk|gb18030|big5(?:-?hkscs)?))(?![\w-])",
    re.IGNORECASE,
)


def decoded(body: bytes, content_type: str) -> str:
    """The text that `body` is by its declared charset, UTF-8 otherwise; what cannot be decoded is U+FFFD."""
    declared = _CHARSET.search(content_type)
    try:
        return body.decode(declared[1] if declared else "utf-8", "replace")
    except LookupError:  # e.g. cp99999
        return body.decode("utf-8", "replace")


class Record(Struct, frozen=True):
    """One DNS record as people write it."""

    type: str
    text: str
    ttl_s: int | None = None


class Answered(Struct, frozen=True):
    """What one name server said. `rcode` is None where it said nothing that can be read."""

    server: str
    rcode: str | None = None
    records: tuple[Record, ...] = ()
    flags: tuple[str, ...] = ()
    failure: Failure | None = None


class Hop(Struct, frozen=True):
    """One redirect that was followed, with where its time went."""

    url: str
    status: int
    address: str | None
    timings: Timings


class Certificate(Struct, frozen=True):
    """One certificate of a chain. Times are seconds since the epoch."""

    subject: str
    issuer: str
    names: tuple[str, ...]  # DNS names and addresses it is valid for
    not_before: float
    not_after: float
    serial: str  # hex
    sha256: str  # fingerprint in lower-case hex
    key: str  # such as EC P-256, RSA 2048
    signature: str  # such as ecdsa-with-SHA256


class TlsSeen(Struct, frozen=True):
    """What a handshake agreed on and was shown."""

    version: str  # TLSv1.3
    cipher: str
    certificates: tuple[Certificate, ...] = ()  # as sent, leaf first
    ocsp: str | None = None  # stapled status: good, revoked, unknown; None without a staple
    at: float = 0.0  # when it was seen, seconds since the epoch
    faults: tuple[Failure, ...] = ()  # what is wrong with it, the worst first, whether or not it is verified
    expires: float | None = (
        None  # the first of the verified path to expire, since the epoch; None without a path
    )

    @property
    def days_left(self) -> float | None:
        """Until the first of the verified path expires, or of what was sent where there is none; negative after.

        None where no certificate was read.
        """
        if not self.certificates:
            return None
        expires = self.expires or min(certificate.not_after for certificate in self.certificates)
        return (expires - self.at) / 86_400


class StepSeen(Struct, frozen=True):
    """One request of a run of several."""

    name: str
    status: int | None
    timings: Timings
    outcomes: tuple[Outcome, ...] = ()
    failure: Failure | None = None


class Document(Struct, frozen=True, omit_defaults=True):
    """A page that a journey was on, with its web vitals (https://web.dev/vitals): seconds, but for `cls`."""

    step: str  # during which it was first seen
    url: str
    ttfb: float | None = None
    fcp: float | None = None
    lcp: float | None = None
    cls: float | None = None


class StepDone(Struct, frozen=True, omit_defaults=True):
    """One step of a journey as it was done, for people."""

    name: str
    said: str  # what it does: `click button "Buy now"`
    state: Literal["ok", "failed", "skipped"]
    after_s: float = 0.0  # from the journey's begin to the step's
    took_s: float = 0.0
    error: str = ""
    is_soft: bool = False  # it failed, and the journey went on
    is_teardown: bool = False
    url: str = ""  # of the page when it ended
    picture: str = ""  # name of the artifact


class Journeyed(Struct, frozen=True, omit_defaults=True):
    """What a browser saw on a journey."""

    steps: tuple[StepDone, ...] = ()
    documents: tuple[Document, ...] = ()
    console: tuple[str, ...] = ()  # errors, oldest first, cut
    console_errors: int = 0
    failures: tuple[str, ...] = ()  # requests that failed: method, address, why; cut
    failed_requests: int = 0
    requests: int = 0
    weight_bytes: int = 0  # received over the network, TLS included, as the egress proxy counted it
    browser: str = ""  # Chromium 156.0.8078.79
    isolation: str = ""  # how it was confined: bubblewrap, process
    notes: tuple[str, ...] = ()  # what is missing of the files, and why


class Artifact(Struct, frozen=True):
    """A file that is kept of a run, for operators."""

    name: str  # failure.jpg, trace.zip, network.har, page.html, step-3.jpg
    type: str  # media type
    data: bytes


@dataclass(slots=True)
class Observation:
    """What one attempt saw. A probe fills it in as it goes, so that a cut attempt keeps what it had."""

    status: int | None = None
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)  # names in lower case
    body: bytes = b""  # decoded; the first 2 KiB where no expectation reads it
    size_bytes: int = 0  # of the body as read, decoded where an expectation reads it
    is_truncated: bool = False  # the body is longer than what was read
    protocol: str | None = None  # what was spoken: HTTP/1.1, h2
    hops: list[Hop] = field(default_factory=list)  # redirects followed, the answer itself not among them
    cookies: dict[str, str] = field(default_factory=dict)  # set by the answer or a hop before it
    captured: dict[str, str] = field(default_factory=dict)  # what templates may show to customers
    steps: list[StepSeen] = field(default_factory=list)  # of a run of several requests
    records: list[Record] = field(default_factory=list)
    rcode: str | None = None
    flags: tuple[str, ...] = ()  # of a DNS answer, in lower case: aa, ad, ra, tc
    answers: list[Answered] = field(default_factory=list)  # where several name servers were asked
    address: str | None = None  # connected to, or the resolver asked
    addresses: tuple[str, ...] = ()  # all the name has
    tls: TlsSeen | None = None
    packets: tuple[float | None, ...] = ()  # round trips in seconds, None for a lost one
    token_s: float | None = None  # what fetching an OAuth 2 token took; in no timing
    journey: Journeyed | None = None
    artifacts: tuple[Artifact, ...] = ()  # without secrets
    secrets: tuple[str, ...] = ()  # captured or fetched on the way, to be hidden beside those of the check
    trace_id: str | None = None  # 32 hex digits, as sent in `traceparent`
    timings: Timings = field(default_factory=Timings)
    failure: Failure | None = None  # what kept the attempt from an answer
    _text: str | None = None

    def header(self, name: str) -> str | None:
        """The value of a header (name in lower case), repeated ones joined; None when there is none."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    def text(self) -> str:
        """The body decoded by its declared charset, UTF-8 otherwise; what cannot be decoded is U+FFFD."""
        if self._text is None:
            self._text = decoded(self.body, self.header("content-type") or "")
        return self._text
