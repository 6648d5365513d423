"""Content encodings undone within the cap: gzip, deflate, br, zstd. Anything else, or one in another, is refused."""

import sys
import zlib
from collections.abc import Callable
from typing import Final

from engine.probes.trouble import TroubleError
from rules.secret import cut

BODY_MAX_BYTES: Final = 1_048_576  # as received, and again when decoded
ACCEPTED: Final = "gzip, br, zstd"
_GZIP_OR_ZLIB: Final = 47  # zlib's window bits for "whichever it is"
_ZSTD_WINDOW_LOG: Final = 23  # 8 MiB, which RFC 9659 allows at most


def decode(body: bytes, encoding: str) -> bytes:
    """`body` without its content encoding. Raises `TroubleError`, also when it grows beyond the limit."""
    named = encoding.strip().lower()
    if not body or named in ("", "identity"):  # an answer without a body may name one all the same
        return body
    if named not in _DECODERS:
        raise TroubleError("body.decode", f"the content encoding {cut(encoding, 80)!r} was not asked for")
    decoded, ending = _DECODERS[named](body)
    if len(decoded) > BODY_MAX_BYTES:
        raise too_large()
    if ending:
        raise TroubleError("body.decode", f"{encoding}: {ending}")
    return decoded


def too_large() -> TroubleError:
    """The body is longer than what an assertion may read."""
    return TroubleError("body.too_large", f"the body is larger than the {BODY_MAX_BYTES} bytes that are read")


def _inflate(body: bytes) -> tuple[bytes, str]:
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        decoded = inflater.decompress(body, BODY_MAX_BYTES + 1)
    except zlib.error as wrong:
        return b"", str(wrong)
    return decoded, _ending(inflater.eof, inflater.unused_data)


def _unbrotli(body: bytes) -> tuple[bytes, str]:
    import brotli  # most probes never meet it

    decoder = brotli.Decompressor()
    try:
        decoded = decoder.process(body, output_buffer_limit=BODY_MAX_BYTES + 1)
    except brotli.error as wrong:
        return b"", str(wrong)
    return decoded, _ending(decoder.is_finished(), b"")


def _unzstd(body: bytes) -> tuple[bytes, str]:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    decoder = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
    try:
        decoded = decoder.decompress(body, BODY_MAX_BYTES + 1)
    except zstd.ZstdError as wrong:
        return b"", str(wrong)
    return decoded, _ending(decoder.eof, decoder.unused_data)


def _ending(is_whole: bool, after: bytes) -> str:
    """What is wrong with how it ended."""
    if not is_whole:
        return "cut off"
    return "data after its end" if after else ""


_DECODERS: Final[dict[str, Callable[[bytes], tuple[bytes, str]]]] = {
    "gzip": _inflate,
    "x-gzip": _inflate,
    "deflate": _inflate,
    "br": _unbrotli,
    "zstd": _unzstd,
}
