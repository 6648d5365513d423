"""How an inbox verifies that a delivery is its sender's: an HMAC over the raw body, by preset or spelt out. Verifying is `evaluators.signature`'s."""

import base64
import re
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rules.assertion import HeaderName
from rules.duration import Duration
from rules.secret import references
from rules.shape import Rule

Preset = Literal[
    "bitbucket",
    "buildkite",
    "checkly",
    "circleci",
    "github",
    "grafana",
    "heroku",
    "linear",
    "pagerduty",
    "sentry",
    "shopify",
    "slack",
    "standard-webhooks",
    "stripe",
    "svix",
    "terraform",
    "vercel",
    "zoom",
]
Algorithm = Literal["sha256", "sha1", "sha512"]
Encoding = Literal["hex", "base64"]
KeyEncoding = Literal["text", "hex", "base64"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """Where a signature stands, and over what it is made. `signed` has `{body}`, and may have `{timestamp}` and `{id}`."""

    header: str
    prefix: str = ""
    separator: str = ""  # of several signatures in the header; none where it has one
    signed: str = "{body}"
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    key_encoding: KeyEncoding = "text"
    timestamp_header: str | None = None
    timestamp_prefix: str | None = None  # of the part of the signature's header that is the time
    id_header: str | None = None


_STANDARD: Final = Scheme(
    "webhook-signature",
    "v1,",
    " ",
    "{id}.{timestamp}.{body}",
    encoding="base64",
    key_encoding="base64",
    timestamp_header="webhook-timestamp",
    id_header="webhook-id",
)
PRESETS: Final[dict[Preset, Scheme]] = {
    "bitbucket": Scheme("X-Hub-Signature", "sha256="),
    "buildkite": Scheme(
        "X-Buildkite-Signature", "signature=", ",", "{timestamp}.{body}", timestamp_prefix="timestamp="
    ),
    "checkly": Scheme("X-Checkly-Signature"),
    "circleci": Scheme("circleci-signature", "v1=", ","),
    "github": Scheme("X-Hub-Signature-256", "sha256="),
    "grafana": Scheme("X-Grafana-Alerting-Signature"),
    "heroku": Scheme("Heroku-Webhook-Hmac-SHA256", encoding="base64"),
    "linear": Scheme("Linear-Signature"),
    "pagerduty": Scheme("X-PagerDuty-Signature", "v1=", ","),
    "sentry": Scheme("Sentry-Hook-Signature"),
    "shopify": Scheme("X-Shopify-Hmac-Sha256", encoding="base64"),
    "slack": Scheme(
        "X-Slack-Signature", "v0=", "", "v0:{timestamp}:{body}", timestamp_header="X-Slack-Request-Timestamp"
    ),
    "standard-webhooks": _STANDARD,
    "stripe": Scheme("Stripe-Signature", "v1=", ",", "{timestamp}.{body}", timestamp_prefix="t="),
    "svix": replace(
        _STANDARD, header="svix-signature", timestamp_header="svix-timestamp", id_header="svix-id"
    ),
    "terraform": Scheme("X-TFE-Notification-Signature", algorithm="sha512"),
    "vercel": Scheme("X-Vercel-Signature", algorithm="sha1"),
    "zoom": Scheme(
        "X-Zm-Signature", "v0=", "", "v0:{timestamp}:{body}", timestamp_header="X-Zm-Request-Timestamp"
    ),
}
_GRAFANA_NAMES: Final = ("header", "timestamp_header")  # what can be set there
_PLACE: Final = re.compile(r"\{(.*?)\}")


class Signature(Rule):
    """`signature:` of an inbox: deliveries without a valid one are refused."""

    preset: Preset | None = Field(
        default=None, description="Of a known sender; else `header` and what follows."
    )
    secrets: list[Annotated[str, StringConstraints(min_length=1, max_length=500)]] = Field(
        min_length=1,
        max_length=5,
        description="Keys of which one must fit, best as `${env:NAME}` or `${secret:NAME}`.",
    )
    tolerance: Duration = Field(
        default=300.0, ge=1, le=86400, description="How old or new a signed time may be, where there is one."
    )
    header: HeaderName | None = Field(default=None, description="Where the signature stands.")
    prefix: Annotated[str, StringConstraints(max_length=50)] = Field(
        default="", description="What stands before it, such as `sha256=`."
    )
    separator: Annotated[str, StringConstraints(max_length=3)] = Field(
        default="",
        description="Between several signatures in the header, of which one must fit, and the time.",
    )
    signed: Annotated[str, StringConstraints(max_length=200)] = Field(
        default="{body}",
        description="What is signed: `{body}`, with `{timestamp}`, `{id}` and text beside it.",
    )
    algorithm: Algorithm = Field(default="sha256", description="Of the HMAC.")
    encoding: Encoding = Field(default="hex", description="Of the signature.")
    key_encoding: KeyEncoding = Field(
        default="text",
        description="Of the secrets: what they stand for as it is, or the bytes written so; `whsec_` before it is no part of it.",
    )
    timestamp_header: HeaderName | None = Field(
        default=None, description="Where the signed time stands: seconds or milliseconds since the epoch."
    )
    timestamp_prefix: Annotated[str, StringConstraints(min_length=1, max_length=50)] | None = Field(
        default=None,
        description="Where it stands in the signature's header: what is before it, such as `t=`.",
    )
    id_header: HeaderName | None = Field(default=None, description="Where the signed id stands.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.preset is None:
            self._expect_spelt_out()
        else:
            given = self.model_fields_set - {"preset", "secrets", "tolerance"}
            if given and (self.preset != "grafana" or given.difference(_GRAFANA_NAMES)):
                raise ValueError(
                    f"preset {self.preset!r} says all but secrets and tolerance; take out "
                    f"{', '.join(sorted(given))}, or the preset to spell it out"
                )
        for secret in self.secrets:
            if not any(references(secret)):
                key_bytes(secret, self.scheme.key_encoding)
        return self

    def _expect_spelt_out(self) -> None:
        if self.header is None:
            raise ValueError("signature needs a preset, or a header with what is signed")
        places = _PLACE.findall(self.signed)
        if places.count("body") != 1 or set(places) - {"body", "timestamp", "id"}:
            raise ValueError(
                f"signed {self.signed!r} is not allowed; write {{body}} once, with {{timestamp}} and {{id}} if signed"
            )
        if (self.timestamp_header is not None) + (self.timestamp_prefix is not None) != (
            "timestamp" in places
        ):
            raise ValueError(
                "signed has {timestamp} exactly when one of timestamp_header and timestamp_prefix says where that is"
            )
        if (self.id_header is not None) != ("id" in places):
            raise ValueError("signed has {id} exactly when id_header says where that is")
        if self.timestamp_prefix is not None and not self.separator:
            raise ValueError(
                "timestamp_prefix needs a separator: the time is one of several parts of the header"
            )

    @property
    def scheme(self) -> Scheme:
        """What the preset stands for, or what is spelt out."""
        if self.preset is None:
            assert self.header is not None
            spelt: dict[str, Any] = {name: getattr(self, name) for name in Scheme.__slots__}
            return Scheme(**spelt)
        scheme = PRESETS[self.preset]
        if self.timestamp_header is not None:
            scheme = replace(scheme, signed="{timestamp}:{body}", timestamp_header=self.timestamp_header)
        return replace(scheme, header=self.header) if self.header is not None else scheme


def key_bytes(secret: str, encoding: KeyEncoding) -> bytes:
    """The key that `secret` is. Raises `ValueError`, without the secret in it."""
    if encoding == "text":
        return secret.encode()
    bare = secret.removeprefix("whsec_")
    try:
        return bytes.fromhex(bare) if encoding == "hex" else base64.b64decode(bare, validate=True)
    except ValueError:
        raise ValueError(f"secrets are {encoding} here, and one of them is not") from None
