"""Where measurements are exported to by OTLP: one small model, on the installation, a page or a beat."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rules.assertion import HeaderName, HeaderValue
from rules.channels.channel import HttpUrl
from rules.duration import Duration
from rules.shape import Rule

Pem = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


class OtlpTls(Rule):
    """TLS towards a collector, where the system's authorities do not do."""

    ca: Pem | None = Field(
        default=None,
        description="PEM of the authorities trusted instead of the system's; may be a reference.",
    )
    certificate: Pem | None = Field(
        default=None, description="PEM of our own certificate; may be a reference."
    )
    key: Pem | None = Field(default=None, description="PEM of its private key; best as a reference.")
    verify: bool = Field(
        default=True, description="Whether the collector's certificate is checked; always so with grpc."
    )

    @model_validator(mode="after")
    def _is_a_pair(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            there, lacks = ("certificate", "key") if self.key is None else ("key", "certificate")
            raise ValueError(f"{there} needs `{lacks}` beside it")
        return self


class Otlp(Rule):
    """Where metrics and spans are exported to. A beat's own wins over its page's, which wins over the installation's."""

    endpoint: HttpUrl = Field(description="Base URL of the collector, e.g. http://127.0.0.1:4318.")
    protocol: Literal["http/protobuf", "grpc"] = Field(
        default="http/protobuf", description="What the collector speaks."
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default={}, max_length=100, description="Sent with every export; `${env:NAME}` for secrets."
    )
    tls: OtlpTls = Field(default=OtlpTls(), description="For an https endpoint.")
    compression: Literal["gzip", "none"] = Field(default="gzip", description="Of what is sent.")
    interval: Duration = Field(default=60.0, ge=1, le=3600, description="Between two exports.")
    timeout: Duration = Field(default=10.0, ge=0.1, le=60, description="For one request.")
    temporality: Literal["cumulative", "delta"] = Field(
        default="cumulative", description="Totals since the start, or since the last export."
    )
    names: Literal["upbeat", "openstatus"] = Field(
        default="upbeat", description="What the metrics of runs are called."
    )
    exemplars: bool = Field(
        default=True, description="Whether durations carry the trace ids of some of their runs."
    )
    spans: bool = Field(default=False, description="Whether every run is exported as a trace, too.")

    @model_validator(mode="after")
    def _can_be_spoken(self) -> Self:
        if "@" in self.endpoint.split("://", 1)[-1].split("/", 1)[0]:
            raise ValueError("endpoint must not carry credentials; use headers with ${env:NAME}")
        if self.protocol == "grpc" and not self.tls.verify:
            raise ValueError("grpc always checks the certificate: give the collector's authority as tls.ca")
        return self
