"""How a public page looks: its files below `assets/`, and its colours as a stylesheet. What it says is `api.status.pages`'.

Colours that an operator chose are shown as they are where that can be seen, and are moved towards black or white where it
cannot: WCAG 2.2 AA asks 4.5:1 of text and 3:1 of what is no text.
"""

import hashlib
from importlib import resources
from typing import Any, Final

from api.status.document import Document, Picture
from rules.page import Look

Colour = tuple[float, float, float]  # red, green, blue, each of 1

_BLACK: Final[Colour] = (0.0, 0.0, 0.0)
_WHITE: Final[Colour] = (1.0, 1.0, 1.0)
_SURFACES: Final[tuple[Colour, Colour]] = ((0.941, 0.949, 0.961), (0.110, 0.125, 0.157))
"""What text stands on, light and dark: of `static/status.css` the one that is nearer to the text."""
_TEXT: Final = 4.6
GRAPHIC: Final = 3.05
_SOFT: Final = 0.88
ICONS: Final = {
    "operational": "#2a9d68",
    "under_maintenance": "#3f86cc",
    "degraded_performance": "#d68a12",
    "partial_outage": "#e0661b",
    "major_outage": "#d93848",
}
"""Of a browser's tab, where no picture was uploaded."""
_ICON: Final = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="15" fill="{}"/><path d="{}" fill="none" stroke="#fff" stroke-width="3.4" stroke-linecap="round" stroke-linejoin="round"/></svg>'
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


def _named(name: str, body: bytes) -> str:
    stem, _, suffix = name.partition(".")
    return f"{stem}-{hashlib.sha256(body).hexdigest()[:12]}.{suffix}"


def _icon(status: str) -> bytes:
    sign = "m9 16.5 5 5 9-10.5" if status == "operational" else "M16 8.5v9m0 5.5v.1"
    return _ICON.format(ICONS[status], sign).encode()


_OURS: Final = {
    **{file.name: file.read_bytes() for file in resources.files("api.status").joinpath("static").iterdir()},
    **{f"icon-{status}.svg": _icon(status) for status in ICONS},
}
_NAMES: Final = {name: _named(name, body) for name, body in _OURS.items()}
_FILES: Final = {
    _NAMES[name]: Picture(_NAMES[name], _TYPES[name.rpartition(".")[2]], body) for name, body in _OURS.items()
}


def assets(page: Document) -> dict[str, Any]:
    """Names below `assets/` that this page refers to now; styles in the order in which they are read."""
    pictures = {name: picture.file for name, picture in page.pictures.items()}
    return {
        "styles": [_NAMES["status.css"], *_styles(page.rule.look)],
        "script": _NAMES["status.js"],
        "icon": pictures.get("favicon", _NAMES[f"icon-{page.state}.svg"]),
        "logo": pictures.get("logo"),
        "logo_dark": pictures.get("logo-dark"),
    }


def files(page: Document) -> dict[str, Picture]:
    """All that is below `assets/`."""
    return _FILES | _styles(page.rule.look) | {picture.file: picture for picture in page.pictures.values()}


def _styles(look: Look) -> dict[str, Picture]:
    sheets = {"page.css": stylesheet(look).encode(), "own.css": look.css.strip().encode()}
    named = {_named(name, css): css for name, css in sheets.items() if css}
    return {name: Picture(name, "text/css", css) for name, css in named.items()}


def found(page: Document, name: str) -> tuple[Picture, dict[str, str]] | None:
    """The file and its headers. Under a name of before it is that of now, which is not kept: another process may be ahead."""
    known = files(page)
    if name in known:
        return known[name], _FOREVER
    stem, _, rest = name.rpartition("-")
    for now, file in known.items():
        if stem and now.rpartition("-")[0] == stem and now.rpartition(".")[2] == rest.rpartition(".")[2]:
            return file, {"Cache-Control": "public, no-cache"}
    return None


def stylesheet(look: Look) -> str:
    """The colours that a page has of its own; "" where it has none. Browsers without light-dark() are shown the light ones."""
    found: dict[str, list[Colour]] = {}
    if look.accent:
        accent = read(look.accent)
        found["accent"], found["on-accent"] = [accent] * 2, [on(accent)] * 2
        found["link"] = [readable(accent, surface, _TEXT) for surface in _SURFACES]
    for status, value in look.colours.items():
        colour = read(value)
        soft = found[f"{status}-soft"] = [mixed(colour, surface, _SOFT) for surface in _SURFACES]
        found[status] = [readable(colour, surface, GRAPHIC) for surface in _SURFACES]
        text = (readable(colour, behind, _TEXT) for behind in soft)
        found[f"{status}-text"] = [readable(*both, _TEXT) for both in zip(text, _SURFACES, strict=True)]
    if not found:
        return ""
    shown = {name: [written(colour) for colour in both] for name, both in found.items()}
    old = ";".join(f"--{name}:{light}" for name, (light, _) in shown.items())
    new = ";".join(f"--{name}:light-dark({light},{dark})" for name, (light, dark) in shown.items())
    return f":root{{{old}}}@supports (color:light-dark(#000,#fff)){{:root{{{new}}}}}"


def contrast(one: Colour, other: Colour) -> float:
    """WCAG 2.2: 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def on(colour: Colour) -> Colour:
    """Black or white, whichever is better read on it."""
    return max(_BLACK, _WHITE, key=lambda text: contrast(text, colour))


def readable(colour: Colour, behind: Colour, ratio: float) -> Colour:
    """`colour`, moved as little as can be towards black or white until its contrast to `behind` is `ratio`."""
    end = on(behind)
    steps = (mixed(colour, end, step / 50) for step in range(50))
    return next((near for near in steps if contrast(near, behind) >= ratio), end)


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """Of both, `share` of the other; as a screen shows it."""
    red, green, blue = (round((a + (b - a) * share) * 255) / 255 for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _luminance(colour: Colour) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def read(value: str) -> Colour:
    """Of `#rrggbb`."""
    red, green, blue = (int(value[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def written(colour: Colour) -> str:
    """As `#rrggbb`."""
    return "#" + "".join(f"{round(part * 255):02x}" for part in colour)
