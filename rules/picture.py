"""Pictures that operators upload for their pages: made anew of what was seen in them, so that nothing else of the file is served.

Pixels are drawn again as PNG; of SVG a list of elements and attributes is kept, none of which runs or loads anything. What a
file says of its kind does not matter. Where pictures are kept is the store's.
"""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Final, Literal, NamedTuple

from lxml import etree
from PIL import Image, ImageOps, UnidentifiedImageError

from rules.page import MOST_CSS, MOST_PICTURE_BYTES, PictureUse
from rules.stylesheet import refused

MOST_DRAWN_BYTES: Final = 100_000
MOST_PIXELS: Final = 4096 * 4096
"""Of a file: 130 MB while they are drawn again."""
MOST_SHAPES: Final = 20_000
"""What a browser draws of an SVG, where one shape refers to another."""
_TOO_MUCH: Final = f"has more than {MOST_SHAPES} shapes, or one that refers to itself; save it simpler, and without references"
_LARGEST: Final[dict[PictureUse, tuple[int, int]]] = {
    "logo": (600, 200),
    "logo-dark": (600, 200),
    "favicon": (180, 180),
}
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "ICO")
_SVG: Final = "{http://www.w3.org/2000/svg}"
_HREF: Final = ("href", "{http://www.w3.org/1999/xlink}href")
_ELEMENTS: Final = frozenset(
    "svg g defs symbol use switch path rect circle ellipse line polyline polygon text tspan title desc style "  # noqa: SIM905
    "linearGradient radialGradient stop clipPath mask".split()
)
_PAINT: Final = frozenset(
    "clip-path clip-rule color color-interpolation display dominant-baseline fill fill-opacity fill-rule font-family "  # noqa: SIM905
    "font-size font-stretch font-style font-variant font-weight letter-spacing mask mask-type mix-blend-mode isolation "
    "opacity overflow paint-order shape-rendering stop-color stop-opacity stroke stroke-dasharray stroke-dashoffset "
    "stroke-linecap stroke-linejoin stroke-miterlimit stroke-opacity stroke-width text-anchor text-rendering "
    "transform-origin vector-effect visibility word-spacing".split()
)
"""Attributes that may as well stand in `style`."""
_ATTRIBUTES: Final = _PAINT | frozenset(
    "id class version viewBox preserveAspectRatio width height x y x1 y1 x2 y2 cx cy r rx ry fx fy fr d points dx dy "  # noqa: SIM905
    "rotate transform pathLength textLength lengthAdjust offset gradientUnits gradientTransform spreadMethod "
    "clipPathUnits maskUnits maskContentUnits".split()
)
_FUNCTIONS: Final = {"rgb", "rgba", "hsl", "hsla", "matrix", "translate", "scale", "rotate", "skewx", "skewy"}
_REFERENCE: Final = re.compile(r"#[\w.:-]+")
"""To a shape in the file, by its name as it stands there: browsers would undo a `%61`."""
_LOCAL: Final = re.compile(r"""url\( *(["']?)#([\w.:-]+)\1 *\)""", re.IGNORECASE)
_PAINTED: Final = re.compile(r"""\b(fill|stroke)\s*:\s*url\( *(["']?)#[\w.:-]+\2 *\)""", re.IGNORECASE)
_LENGTH: Final = re.compile(r"\s*[\d.]{0,9}[1-9][\d.]{0,9}\s*(px|pt|pc|mm|cm|in)?\s*")
_BOX: Final = re.compile(
    r"\s*-?[\d.]+[\s,]+-?[\d.]+[\s,]+(\d{1,9}(?:\.\d{0,9})?)[\s,]+(\d{1,9}(?:\.\d{0,9})?)\s*"
)
# An icon's frames are decoded by Pillow whatever its head says: this keeps them in bounds, too.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS


class Drawn(NamedTuple):
    """A picture as it is served."""

    media_type: Literal["image/png", "image/svg+xml"]
    body: bytes


def drawn(body: bytes, use: PictureUse) -> Drawn:
    """The picture made anew, small enough for its use. Raises `ValueError` saying what is wrong and what is allowed."""
    if len(body) > MOST_PICTURE_BYTES:
        raise ValueError(f"has {len(body)} bytes; up to {MOST_PICTURE_BYTES} are allowed")
    if body.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        made = Drawn("image/svg+xml", _cleaned(body, use))
    else:
        made = Drawn("image/png", _redrawn(body, use))
    if len(made.body) > MOST_DRAWN_BYTES:
        raise ValueError(
            f"has {len(made.body)} bytes when it is cleaned; up to {MOST_DRAWN_BYTES} are allowed"
        )
    return made


def _redrawn(body: bytes, use: PictureUse) -> bytes:
    try:
        with Image.open(BytesIO(body), formats=_FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            opened.load()
            ImageOps.exif_transpose(opened, in_place=True)
            picture = opened.convert("RGBA")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"has too many pixels; up to {MOST_PIXELS} are allowed") from None
    except UnidentifiedImageError:
        raise ValueError("is no picture that is known; PNG, JPEG, WebP, GIF, ICO and SVG are") from None
    except Exception as broken:  # Pillow raises whatever a damaged file leads it to
        raise ValueError(f"is damaged: {broken}") from None
    picture.info.clear()
    picture.thumbnail(_LARGEST[use])
    if use == "favicon":
        side = max(picture.size)
        picture = ImageOps.pad(picture, (side, side), color=(0, 0, 0, 0))
    while True:
        picture.save(written := BytesIO(), "PNG", optimize=True)
        if written.tell() <= MOST_DRAWN_BYTES:
            return written.getvalue()
        picture = picture.resize((max(picture.width * 4 // 5, 1), max(picture.height * 4 // 5, 1)))


def _cleaned(body: bytes, use: PictureUse) -> bytes:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is SVG in another encoding; UTF-8 is allowed") from None
    if "<!ENTITY" in text:
        raise ValueError("declares entities, which are not allowed; save it as plain SVG")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as wrong:
        raise ValueError(f"is no SVG: {' '.join(str(wrong.msg).split())}") from None
    if root.tag != f"{_SVG}svg":
        raise ValueError("is no SVG: its first element is not svg of http://www.w3.org/2000/svg")
    if sum(len("".join(style.itertext())) for style in root.iter(f"{_SVG}style")) > MOST_CSS:
        raise ValueError(f"has more than {MOST_CSS} characters of style; up to that are allowed")
    # lxml looks each attribute up among all of its element's.
    if any(n >= MOST_SHAPES or len(one.attrib) > 100 for n, one in enumerate(root.iter())):
        raise ValueError(_TOO_MUCH)
    made = etree.Element(root.tag, nsmap={None: _SVG[1:-1]})
    _copy(root, made)
    _measure(made, use)
    _expect_small(made)
    return bytes(etree.tostring(made, encoding="utf-8"))


def _measure(made: etree._Element, use: PictureUse) -> None:
    """Size one that leaves that to where it stands: browsers would show nothing of it where its place is as large as it is."""
    for side in ("width", "height"):
        if not _LENGTH.fullmatch(made.get(side, "")):
            made.attrib.pop(side, None)
    box = _BOX.fullmatch(made.get("viewBox", ""))
    if box is None or "width" in made.attrib or "height" in made.attrib:
        return
    width, height = (float(side) for side in box.groups())
    if width and height:
        scale = min(_LARGEST[use][0] / width, _LARGEST[use][1] / height)
        made.set("width", f"{max(width * scale, 1):.6g}")
        made.set("height", f"{max(height * scale, 1):.6g}")


def _copy(source: etree._Element, made: etree._Element) -> None:
    """What is allowed of an element, and of those in it."""
    for name, value in _said(source):
        made.set(name, value)
    if source.tag == f"{_SVG}style":
        css = "".join(source.itertext())
        if why := refused(_PAINTED.sub(r"\1:none", css)):
            raise ValueError(f"has a style that is not allowed: {why}")
        made.text = css
        return
    made.text = source.text
    for inner in source:
        if isinstance(inner.tag, str) and inner.tag.removeprefix(_SVG) in _ELEMENTS and _SVG in inner.tag:
            kept = etree.SubElement(made, inner.tag)
            kept.tail = inner.tail
            _copy(inner, kept)


def _said(source: etree._Element) -> Iterator[tuple[str, str]]:
    for name, value in source.attrib.items():
        if name in _HREF and _REFERENCE.fullmatch(value.strip()):
            yield "href", value.strip()
        elif name == "style":
            declared = (part.partition(":") for part in value.split(";"))
            yield from (
                (key.strip(), said.replace("!important", "").strip())
                for key, _, said in declared
                if key.strip() in _PAINT and _is_inert(said)
            )
        elif name in _ATTRIBUTES and _is_inert(value):
            yield str(name), value


def _is_inert(value: str) -> bool:
    """Whether it refers to nothing but what is in the file. An escape could hide a function's name."""
    if "\\" in value:
        return False
    before = (
        text.replace(")", " ").replace(",", " ").split() for text in _LOCAL.sub("", value).split("(")[:-1]
    )
    return all(words and words[-1].lower() in _FUNCTIONS for words in before)


def _expect_small(root: etree._Element) -> None:
    """What refers to others that refer to others doubles with each step. Raises `ValueError`."""
    named: dict[str | None, etree._Element] = {}
    for element in root.iter():
        named.setdefault(element.get("id"), element)  # of two of one name browsers draw the first
    weighed: dict[etree._Element, float] = {}

    def weight(element: etree._Element, depth: int) -> float:
        if element not in weighed:
            weighed[element] = float("inf")  # while it is weighed: in a circle there is no end
            values = (value for value in element.attrib.values())
            to = [match[2] for value in values for match in _LOCAL.finditer(value)]
            to += [element.get("href", "")[1:]]
            parts = [*element, *(named[name] for name in to if name in named)]
            weighed[element] = 1 + (
                sum(weight(part, depth + 1) for part in parts) if depth < 200 else float("inf")
            )
        return weighed[element]

    if weight(root, 0) > MOST_SHAPES:
        raise ValueError(_TOO_MUCH)
