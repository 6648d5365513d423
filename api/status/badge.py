"""A page's state as a picture: badges as SVG and PNG, and the large one that comes with a link to it. Nothing here is HTML.

`badge.svg` is the page's, `badge/pay.svg` its component's: a path and no option, so that an export has them too. The SVG's
text is fitted to the width that the font here says, whichever font the reader has.
"""

import io
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib import resources
from typing import Final, NamedTuple
from unicodedata import east_asian_width, normalize
from xml.sax.saxutils import escape, quoteattr

from PIL import Image, ImageDraw, ImageFont

from api.status import look, pages
from api.status.document import Document
from api.status.view import OPEN, Place, Rendition, View, view
from rules.markdown import one_line

COLOURS: Final[Mapping[str, str]] = {
    "operational": "#17784a",
    "degraded_performance": "#8f5600",
    "partial_outage": "#a84300",
    "major_outage": "#b91f2e",
    "under_maintenance": "#22609c",
}
"""Of statuses, where a page has none of its own."""
_NEUTRAL: Final = "#59616e"
HEIGHTS: Final[Mapping[str, tuple[int, int]]] = {"sm": (20, 11), "md": (26, 14), "lg": (34, 18)}
"""Of a badge and of its text, in pixels."""
THEMES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "light": ("#e7eaef", "#ffffff", "#868e9c", "#191c22"),
    "dark": ("#2a303b", "#15181e", "#6b7484", "#e7e9ee"),
}
"""Behind the label, behind an outlined badge, its edge, and text."""
VARIANTS: Final = ("flat", "outline", "dot")
MOST_LABEL: Final = 50
_FONT: Final = (resources.files("api.status") / "fonts" / "DejaVuSans-part.ttf").read_bytes()
_NOT_XML: Final = dict.fromkeys((0xFFFE, 0xFFFF))
_SVG: Final = {**OPEN, "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox"}
_FINE: Final = 2
"""Times larger than it is sent is a PNG drawn: Pillow's edges are hard."""
_SHARP: Final = 2
"""Times larger than its size in CSS pixels is a PNG sent."""


class _Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    radius: float
    fill: str
    edge: str = ""


class _Words(NamedTuple):
    x: float
    width: float
    text: str
    fill: str


class _Badge(NamedTuple):
    title: str
    width: float
    height: int
    size: int  # of text
    boxes: list[_Box]
    words: list[_Words]


def said_of(page: Document, place: Place, slug: str | None) -> tuple[str, str, str] | None:
    """Its name, its status, and what that is called: of the page, or of its component with this slug; None where there is none."""
    if slug is None:
        return page.rule.name, *pages.headline(page, place)
    say = place.language.say
    found = (
        (one.name, one.status, say(f"status_{one.status}")) for one in page.components if one.slug == slug
    )
    return next(found, None)


def colour(page: Document, status: str) -> str:
    """Of a status, on this page."""
    return next(
        (tone for of, tone in page.rule.look.colours.items() if of == status), COLOURS.get(status, _NEUTRAL)
    )


def _upon(background: str) -> str:
    return look.written(look.on(look.read(background)))


def _badge(page: Document, place: Place, given: Mapping[str, str], *, drawn: bool) -> _Badge | None:
    """`drawn`: whether its text has to be of letters that the font here has."""
    slug = given.get("component")
    found = said_of(page, place, slug)
    if found is None:
        return None
    name, status, state = found
    label = _clean(given.get("label", name))
    label = label if len(label) <= MOST_LABEL else f"{label[: MOST_LABEL - 1]}…"
    if drawn:
        label, state = writable(label, slug or page.rule.slug), writable(state, status.replace("_", " "))
    height, size = HEIGHTS.get(given.get("size", ""), HEIGHTS["sm"])
    behind, surface, edge, text = THEMES.get(given.get("theme", ""), THEMES["light"])
    variant, tone, pad, dot = given.get("variant"), colour(page, status), size * 0.6, size * 0.7
    is_flat = variant not in VARIANTS[1:]
    outer = 1.0 if variant == "dot" else pad
    x = outer if is_flat else outer + dot + pad * 0.8
    words: list[_Words] = []
    if label:
        words = [_Words(x, width(label, size), label, text)]
        x += words[0].width + (2 * pad if is_flat else pad)
    words.append(_Words(x, width(state, size), state, _upon(tone) if is_flat else text))
    whole, first = x + words[-1].width + outer, x - pad
    if not is_flat:
        seen = look.written(look.readable(look.read(tone), look.read(surface), look.GRAPHIC))
        boxes = [_Box(outer, (height - dot) / 2, dot, dot, dot / 2, seen)]
        if variant == "outline":
            boxes.insert(0, _Box(0.5, 0.5, whole - 1, height - 1, 4, surface, edge))
    elif label:
        boxes = [_Box(0, 0, whole, height, 4, behind), _Box(first, 0, whole - first, height, 4, tone)]
        boxes.append(_Box(first, 0, 4, height, 0, tone))
    else:
        boxes = [_Box(0, 0, whole, height, 4, tone)]
    return _Badge(f"{label}: {state}" if label else state, whole, height, size, boxes, words)


def _clean(text: str) -> str:
    return one_line(text).translate(_NOT_XML)


def _svg(page: Document, place: Place, given: Mapping[str, str]) -> Rendition | None:
    made = _badge(page, place, given, drawn=False)
    if made is None:
        return None
    size = f'width="{made.width:.0f}" height="{made.height}" viewBox="0 0 {made.width:.1f} {made.height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(made.title)}>',
        f"<title>{escape(made.title)}</title>",
    ]
    lines += [
        f'<rect x="{b.x:.1f}" y="{b.y:.1f}" width="{b.width:.1f}" height="{b.height:.1f}" rx="{b.radius:.1f}" '
        f'fill="{b.fill}"{f""" stroke="{b.edge}" """ if b.edge else ""}/>'
        for b in made.boxes
    ]
    lines.append(f'<g font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="{made.size}">')
    lines += [
        f'<text x="{w.x:.1f}" y="{made.height / 2 + made.size * 0.36:.1f}" textLength="{w.width:.1f}" '
        f'lengthAdjust="spacingAndGlyphs" fill="{w.fill}">{escape(w.text)}</text>'
        for w in made.words
    ]
    return Rendition("\n".join([*lines, "</g></svg>"]).encode(), "image/svg+xml", _SVG)


def _png(page: Document, place: Place, given: Mapping[str, str]) -> Rendition | None:
    made = _badge(page, place, given, drawn=True)
    if made is None:
        return None
    scale = _FINE * _SHARP
    picture = Image.new("RGBA", (round(made.width * scale), made.height * scale))
    pen = ImageDraw.Draw(picture)
    for box in made.boxes:
        corner = (box.x * scale, box.y * scale)
        far = ((box.x + box.width) * scale - 1, (box.y + box.height) * scale - 1)
        pen.rounded_rectangle(
            (*corner, *far), box.radius * scale, box.fill, box.edge or None, scale if box.edge else 0
        )
    for words in made.words:
        at = (words.x * scale, (made.height / 2 + made.size * 0.36) * scale)
        pen.text(at, words.text, words.fill, font(made.size * scale), "ls")
    small = picture.resize((round(made.width * _SHARP), made.height * _SHARP), Image.Resampling.LANCZOS)
    return _sent(small)


def _preview(page: Document, place: Place, _: Mapping[str, str]) -> Rendition | None:
    """1200 x 630, as those who show links want it."""
    status, state = pages.headline(page, place)
    tone = colour(page, status)
    picture = Image.new("RGB", (1200, 630), "#ffffff")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 430, 1200, 630), tone)
    _line(pen, 240, writable(_clean(page.rule.name), page.rule.slug), 84, "#191c22")
    _line(pen, 350, place.url().partition("://")[2], 36, "#59616e")
    _line(pen, 530, f"● {writable(state, status.replace('_', ' '))}", 64, _upon(tone))
    return _sent(picture)


def _line(pen: ImageDraw.ImageDraw, y: int, text: str, size: int, fill: str) -> None:
    """As large as it fits, down to half of `size`; what is still too wide is cut."""
    while width(text, size // 2) > 1040:
        text = text.removesuffix("…")[:-1] + "…"
    while width(text, size) > 1040:
        size -= 2
    pen.text((80, y), text, fill, font(size), "lm")


def _sent(picture: Image.Image) -> Rendition:
    body = io.BytesIO()
    picture.quantize(32, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(body, "PNG", optimize=True)
    return Rendition(body.getvalue(), "image/png", OPEN)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Ours, in pixels."""
    return ImageFont.truetype(io.BytesIO(_FONT), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=5000)
def _has(letter: str) -> bool:
    """Whether the font has it: what it lacks is drawn as what no font has."""
    drawn = font(20)
    return letter == " " or bytes(drawn.getmask(letter)) != bytes(drawn.getmask("\U0010ffff"))


def width(text: str, size: int) -> float:
    """Of `text` in pixels; of letters that the font lacks an estimate."""
    known = "".join(letter for letter in text if _has(letter))
    lacking = sum(1.0 if east_asian_width(one) in "WF" else 0.65 for one in text if not _has(one))
    return font(100).getlength(known) * size / 100 + lacking * size


def writable(text: str, otherwise: str) -> str:
    """`text` in letters that the font has, without marks where it must be; `otherwise` where that is not all of it."""
    letters = "".join(one if _has(one) else _plain(one) for one in text)
    return letters if (all(map(_has, letters)) and letters.strip()) or not text else otherwise


def _plain(letter: str) -> str:
    return "".join(one for one in normalize("NFKD", letter) if _has(one)) or letter


def _paths(page: Document) -> Iterable[str]:
    return ["badge.svg", "badge.png", *(f"badge/{component.slug}.svg" for component in page.components)]


_OPTIONS: Final = ("size", "theme", "variant", "label")
_OF: Final = r"badge(?:/(?P<component>[a-z0-9-]{1,63}))?\."
VIEWS: Final[tuple[View, ...]] = (
    view(_OF + "svg", _svg, paths=_paths, is_spoken=True, options=_OPTIONS),
    view(_OF + "png", _png, is_spoken=True, options=_OPTIONS),
    view(r"preview\.png", _preview, paths=["preview.png"], is_spoken=True),
)
