"""Uploaded pictures: what was seen in them is kept, whatever else the file is, and hostile ones cost little."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from lxml import etree
from PIL import Image

from rules.page import PictureUse
from rules.picture import MOST_DRAWN_BYTES, MOST_SHAPES, drawn

SVG = "<svg xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink' viewBox='0 0 9 9'>{}</svg>"


def file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    written = io.BytesIO()
    picture.save(written, kind, **options)
    return written.getvalue()


def seen(body: bytes, use: PictureUse = "logo") -> Image.Image:
    made = drawn(body, use)
    assert made.media_type == "image/png"
    assert len(made.body) <= MOST_DRAWN_BYTES
    return Image.open(io.BytesIO(made.body))


def cleaned(inner: str) -> str:
    made = drawn(SVG.format(inner).encode(), "logo")
    assert made.media_type == "image/svg+xml"
    return made.body.decode()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int) -> bytes:
    """A head that promises these pixels, and next to no data."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


RED = Image.new("RGB", (60, 40), (200, 0, 0))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "ICO"])
def test_a_picture_of_each_kind_becomes_a_png_of_the_same_look(kind: str) -> None:
    made = seen(file(RED, kind))
    assert made.format == "PNG"
    assert made.mode == "RGBA"
    red, green, blue, alpha = made.getpixel((made.width // 2, made.height // 2))  # type: ignore[misc]
    assert red > 180
    assert max(green, blue) < 30
    assert alpha == 255


def test_a_picture_is_scaled_down_to_fit_and_never_up() -> None:
    assert seen(file(Image.new("RGB", (3000, 500)), "PNG")).size == (600, 100)
    assert seen(file(RED, "PNG")).size == (60, 40)
    assert seen(file(Image.new("RGB", (400, 200)), "PNG"), "favicon").size == (180, 180)


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("viewBox='0 0 120 40'", ("600", "200")),
        ("viewBox='0 0 120 40' width='100%' height='100%'", ("600", "200")),
        ("viewBox='-1,-1, 24 24' width='auto' height='0'", ("200", "200")),
        ("viewBox='0 0 9000 9'", ("600", "1")),
        ("viewBox='0 0 120 40' width='30'", ("30", None)),
        ("viewBox='0 0 120 40' width='30mm' height='100%'", ("30mm", None)),
        ("viewBox='0 0 0 40'", (None, None)),
        ("viewBox='none'", (None, None)),
        ("width='64px' height='20.5'", ("64px", "20.5")),
    ],
)
def test_a_drawing_without_a_size_is_given_that_of_its_use(
    said: str, size: tuple[str | None, str | None]
) -> None:
    made = drawn(f"<svg xmlns='http://www.w3.org/2000/svg' {said}><path d='M0 0h9'/></svg>".encode(), "logo")
    root = etree.fromstring(made.body)
    assert (root.get("width"), root.get("height")) == size


def test_a_photograph_is_made_small_enough() -> None:
    noise = Image.effect_noise((900, 900), 90).convert("RGB")
    assert seen(file(noise, "JPEG", quality=70)).width > 100


def test_of_an_animation_the_first_picture_is_kept() -> None:
    frames = [Image.new("P", (40, 40), number) for number in range(5)]
    assert getattr(seen(file(frames[0], "GIF", save_all=True, append_images=frames[1:])), "n_frames", 1) == 1


def test_four_colours_palettes_and_sixteen_bits_are_read() -> None:
    assert seen(file(RED.convert("CMYK"), "JPEG")).size == (60, 40)
    assert seen(file(Image.new("I;16", (8, 8), 40_000), "PNG")).size == (8, 8)
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 0, 0, 255])
    assert seen(file(palette, "PNG", transparency=1)).getpixel((4, 4))[3] == 0  # type: ignore[index]


def test_a_turned_photograph_stands_upright_and_tells_nothing_of_its_camera() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "canary camera"
    made = drawn(
        file(RED, "JPEG", exif=exif, comment=b"canary comment", icc_profile=b"canary" * 50), "logo"
    ).body
    assert Image.open(io.BytesIO(made)).size == (40, 60)
    assert b"canary" not in made


def test_what_stands_behind_or_beside_a_picture_is_gone() -> None:
    script = b"<script>alert(1)</script>"
    text = chunk(b"tEXt", b"x\0" + script)
    png = file(RED, "PNG")
    for body in (png + script, png[:33] + text + png[33:], file(RED, "GIF") + b"/*" + script + b"PK\x03\x04"):
        assert b"script" not in drawn(body, "logo").body


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no picture that is known; PNG, JPEG, WebP, GIF, ICO and SVG are"),
        (b"%PDF-1.7", "no picture that is known"),
        (file(RED, "TIFF"), "no picture that is known"),
        (file(RED, "BMP"), "no picture that is known"),
        (file(RED, "PNG")[:-30], "is damaged"),
        (file(RED, "JPEG")[:300], "is damaged"),
        (file(RED, "ICO", bitmap_format="bmp", sizes=[(16, 16)])[:-300], "is damaged"),
        (png_of(16_000, 16_000), "too many pixels"),
        (png_of(60_000, 60_000), "too many pixels"),
        (b"\0" * 1_000_001, "has 1000001 bytes; up to 1000000"),
        (SVG.format("<g>").encode(), "is no SVG"),
        (b"<html><body>x</body></html>", "first element is not svg"),
        (SVG.format("<title>é</title>").encode("latin-1"), "another encoding"),
        (b"<!DOCTYPE svg [<!ENTITY a 'b'>]>" + SVG.encode(), "declares entities"),
        (SVG.format("<style>a{background:url(http://e.example/)}</style>").encode(), "style that is not allowed"),
        (SVG.format("<style>@import 'x';</style>").encode(), "style that is not allowed"),
        (SVG.format(f"<style>{'a{} ' * 6000}</style>").encode(), "more than 20000 characters of style"),
        (SVG.format("<g/>" * (MOST_SHAPES + 1)).encode(), "more than 20000 shapes"),
        (SVG.format("<g>" * 300 + "</g>" * 300).encode(), "is no SVG"),
        (SVG.format("<path d='" + "M1 1" * 30_000 + "'/>").encode(), "bytes when it is cleaned"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_a_reason(body: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        drawn(body, "logo")


def test_an_icon_that_lies_of_its_size_is_not_decoded() -> None:
    inner = png_of(16_000, 16_000)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    with pytest.raises(ValueError, match="too many pixels"):
        drawn(struct.pack("<HHH", 0, 1, 1) + entry + inner, "favicon")


def _doubling(link: Callable[[int], str]) -> str:
    steps = [f"<g id='a{n}'>{link(n - 1) * 10}</g>" for n in range(1, 9)]
    return f"<defs><path id='a0' d='M0 0h1'/>{''.join(steps)}</defs>{link(8)}"


@pytest.mark.parametrize(
    "inner",
    [
        _doubling(lambda n: f"<use href='#a{n}'/>"),
        _doubling(lambda n: f"<use xlink:href='#a{n}'/>"),
        _doubling(lambda n: f"<g style='mask: url(#a{n})'/>"),
        _doubling(lambda n: f"<use href='#a{n}'/>") + "".join(f"<g id='a{n}'/>" for n in range(9)),
        "<g id='a'><use href='#a'/></g>",
        "<g id='a'><use href='#b'/></g><g id='b'><use href='#a'/></g>",
        "".join(f"<g id='a{n}'><use href='#a{n + 1}'/></g>" for n in range(5000)),
    ],
)
def test_a_picture_that_draws_itself_without_end_is_refused(inner: str) -> None:
    with pytest.raises(ValueError, match="shapes, or one that refers to itself"):
        cleaned(inner)


@pytest.mark.parametrize(
    "inner", ["<use href='#%61'/>", "<path fill='url(\u2003#a)'/>", "<path mask='url(#%61)'/>"]
)
def test_what_a_browser_reads_as_another_name_is_no_reference(inner: str) -> None:
    assert "#" not in cleaned(f"<g id='a'/>{inner}")


def test_a_style_with_a_blank_that_is_none_to_a_browser_is_refused() -> None:
    with pytest.raises(ValueError, match="style that is not allowed"):
        cleaned("<style>a{fill:url(\xa0#a)}</style>")


def test_an_ordinary_logo_stays_what_it_is() -> None:
    made = cleaned(
        "<!-- Generator: x --><title>Shop</title><defs><style>.a{fill:#f00}.b{fill:url(#g)}</style>"
        "<linearGradient id='g' x2='1'><stop offset='0' stop-color='#fff'/></linearGradient>"
        "<clipPath id='c'><rect width='9' height='9'/></clipPath></defs>"
        "<g clip-path='url(#c)' transform='translate(1,2) rotate(3)'><path class='a' d='M0 0h9v9z' "
        "style='fill-opacity:.5;-inkscape-font-specification:x; stroke : rgb(1, 2, 3) !important'/>"
        "<use xlink:href='#p'/><text x='1' font-family='Sans'>Shop</text></g>"
    )
    for kept in (
        "<title>Shop</title>", ".a{fill:#f00}.b{fill:url(#g)}", 'clip-path="url(#c)"', 'offset="0"', 'href="#p"',
        'transform="translate(1,2) rotate(3)"', 'fill-opacity=".5"', 'stroke="rgb(1, 2, 3)"', ">Shop</text>",
    ):  # fmt: skip
        assert kept in made
    assert "style=" not in made
    assert "inkscape" not in made
    assert "Generator" not in made


HOSTILE = (
    "<script>xss()</script>",
    "<script xlink:href='https://e.example/x.js'/>",
    "<x:script xmlns:x='http://www.w3.org/2000/svg'>xss()</x:script>",
    "<x:script xmlns:x='http://www.w3.org/1999/xhtml'>xss()</x:script>",
    "<foreignObject><body xmlns='http://www.w3.org/1999/xhtml' onload='xss()'/></foreignObject>",
    "<iframe xmlns='http://www.w3.org/1999/xhtml' srcdoc='x'/>",
    "<g onload='xss()' onclick='xss()' xlink:onload='xss()'/>",
    "<a href='javascript:xss()'><text>x</text></a>",
    "<use href='https://e.example/x.svg#a'/>",
    "<use href='data:image/svg+xml;base64,AAAA#a'/>",
    "<use xlink:href=' javascript:xss()'/>",
    "<image href='https://e.example/x.png'/>",
    "<image xlink:href='file:///etc/passwd'/>",
    "<feImage href='https://e.example/x'/>",
    "<animate attributeName='href' values='javascript:xss()'/>",
    "<set attributeName='onmouseover' to='xss()'/>",
    "<handler type='application/ecmascript'>xss()</handler>",
    "<path fill='url(https://e.example/#a)'/>",
    "<path fill='u\\72l(https://e.example/#a)'/>",
    "<path fill='URL( &quot;//e.example/&quot; )'/>",
    "<path fill='url(#a) url(//e.example/)'/>",
    "<path style='fill:url(https://e.example/)'/>",
    "<path style='background:image-set(&quot;https://e.example/&quot; 1x)'/>",
    "<path style='mask:image(https://e.example/)'/>",
    "<path xml:base='https://e.example/'/>",
    "<metadata><rdf xmlns='x' about='https://e.example/'/></metadata>",
    "<?xml-stylesheet href='https://e.example/x.css'?>",
    "<style type='text/css'><script>xss()</script></style>",
    "<title><script>xss()</script></title>",
    "<![CDATA[<script>xss()</script>]]>",
    "<text>&lt;script>xss()&lt;/script></text>",
)  # fmt: skip


@pytest.mark.parametrize("inner", HOSTILE)
def test_nothing_that_runs_or_loads_is_left(inner: str) -> None:
    try:
        made = cleaned(inner)
    except ValueError:
        return
    root = etree.fromstring(made.encode())
    allowed = {"svg", "g", "use", "path", "text", "title", "style"}
    assert {etree.QName(element).localname for element in root.iter()} <= allowed
    assert {etree.QName(element).namespace for element in root.iter()} == {"http://www.w3.org/2000/svg"}
    written = [(name, value) for element in root.iter() for name, value in element.attrib.items()]
    assert not [name for name, _ in written if name.startswith(("on", "{"))]
    assert not [value for _, value in written if "example" in value or "script" in value or "data:" in value]
