"""OTLP over gRPC. Imported only where a destination speaks it: the library costs start time and memory."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from exporters.answer import LONGEST_WAIT_S, failed
from exporters.otlp import OtlpSettings, Signal, Tally, note_refused
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from rules.address import EgressRefusedError

Locate = Callable[[str, int, float], Awaitable[str]]
"""An address of a host that answers at a port within so many seconds, resolved and judged. Raises `OSError`."""

_SERVICES: Final = {
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}


class GrpcSender:
    """OTLP/gRPC. `locate` says which address to connect to, so that gRPC resolves nothing; after a failure it is asked anew."""

    # https://opentelemetry.io/docs/specs/otlp/#failures
    _AGAIN = frozenset(
        (
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.ABORTED,
            grpc.StatusCode.OUT_OF_RANGE,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DATA_LOSS,
        )
    )

    def __init__(self, locate: Locate, settings: OtlpSettings, tally: Tally) -> None:
        self._locate, self._settings, self._tally = locate, settings, tally
        self._metadata = tuple((name.lower(), value) for name, value in settings.headers)
        self._channel: grpc.aio.Channel | None = None

    async def send(self, signal: Signal, request: bytes) -> Outcome:
        timeout_s = self._settings.timeout_s
        try:
            if self._channel is None:
                self._channel = await self._open()
            export = self._channel.unary_unary(_SERVICES[signal])
            answer = await export(request, timeout=timeout_s, metadata=self._metadata)
        except EgressRefusedError as refused:
            return Rejected(str(refused))
        except TimeoutError:
            return Retry("no answer in time")
        except OSError as failure:
            return failed(failure)
        except grpc.aio.AioRpcError as failure:
            await self.close()
            reason = f"gRPC {failure.code().name}"
            return Retry(reason, _asked_s(failure)) if failure.code() in self._AGAIN else Rejected(reason)
        note_refused(signal, answer, self._tally, self._settings.host)
        return Delivered()

    async def close(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def _open(self) -> grpc.aio.Channel:
        parts, settings = urlsplit(self._settings.endpoint), self._settings
        host, is_tls = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if is_tls else 80)
        address = await self._locate(host, port, settings.timeout_s)
        target = f"ipv6:[{address}]:{port}" if ":" in address else f"ipv4:{address}:{port}"
        # A proxy of the environment would resolve and connect for us.
        options = [("grpc.enable_http_proxy", 0), ("grpc.default_authority", self._settings.host)]
        zipping = grpc.Compression.Gzip if settings.compression == "gzip" else grpc.Compression.NoCompression
        if not is_tls:
            return grpc.aio.insecure_channel(target, options=options, compression=zipping)
        options.append(("grpc.ssl_target_name_override", host))
        ca, certificate, key = (
            text.encode() if text is not None else None
            for text in (settings.tls.ca, settings.tls.certificate, settings.tls.key)
        )
        credentials = grpc.ssl_channel_credentials(
            ca or await asyncio.to_thread(_system_ca), key, certificate
        )
        return grpc.aio.secure_channel(target, credentials, options=options, compression=zipping)


def _system_ca() -> bytes | None:
    """The authorities the rest of Upbeat believes, where gRPC would believe its own; None if there are none to be had."""
    context = ssl.create_default_context()
    return "".join(map(ssl.DER_cert_to_PEM_cert, context.get_ca_certs(binary_form=True))).encode() or None


def _asked_s(failure: grpc.aio.AioRpcError) -> float | None:
    """Seconds the receiver asked to wait (google.rpc.RetryInfo), at most `LONGEST_WAIT_S`; None if it did not."""
    for name, value in failure.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            with contextlib.suppress(DecodeError):
                for detail in Status.FromString(value).details:
                    info = RetryInfo()
                    if detail.Unpack(info):
                        return float(
                            min(max(info.retry_delay.ToTimedelta().total_seconds(), 0.0), LONGEST_WAIT_S)
                        )
    return None
