"""What a customer does in a browser, step by step, as operators write it. Doing it is `engine.browser.inside`."""

import ast
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from rules.assertion import HeaderName, HeaderValue, Severity
from rules.auth import Auth
from rules.capture import (
    PLACE_FIRST,
    CaptureName,
    Hideable,
    Publishing,
    expect_captured,
    expect_one_group,
    expect_own_host,
    places,
)
from rules.comparison import COMPARING, TEXTUAL, Comparison
from rules.duration import Duration
from rules.locator import At, Locator, Words, short_for
from rules.pattern import compile_pattern
from rules.problem import nearest
from rules.secret import references
from rules.shape import Rule, Slug, expect_one
from rules.target import RequestUrl, request_url
from rules.zone import zone_name

MOST_STEPS: Final = 100
MOST_LISTS: Final = 20
ACTIONS: Final = (
    "goto", "click", "fill", "select", "check", "press", "hover", "upload",
    "wait", "expect", "store", "screenshot", "use",
)  # fmt: skip
_OF_THE_PAGE: Final = ("url", "title", "response")
_STATES: Final = ("visible", "hidden", "checked", "unchecked", "enabled", "disabled")
_NUMBERS: Final = ("count", "response")
_OF_NUMBERS: Final = (*COMPARING, "in", "between")
_OF_TEXTS: Final = ("eq", "ne", "in", *TEXTUAL, "empty")
_MODIFIERS: Final = ("Shift", "Control", "Alt", "Meta", "ControlOrMeta")
_NAMED_KEYS: Final = (
    "Enter Tab Escape Backspace Delete Insert Space Home End PageUp PageDown ArrowUp ArrowDown ArrowLeft ArrowRight "
    "F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12 CapsLock ContextMenu Pause"
)
_KEYS: Final = frozenset(_NAMED_KEYS.split())
_WRITTEN_BY_BROWSERS: Final = (
    "connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
)  # fmt: skip
_HOST: Final = re.compile(r"[A-Za-z0-9*?._-]+|\[[0-9A-Fa-f:.]+\]")
_OWN_NAME: Final = re.compile(r"failure|step-[0-9]+")  # names of pictures that are taken anyway
Input = Annotated[str, StringConstraints(max_length=65_536)]


class Click(Locator):
    """A click, once or several times."""

    button: Literal["left", "right", "middle"] = Field(default="left", description="Of the mouse.")
    times: int = Field(default=1, ge=1, le=3, description="2 is a double click.")


class Fill(Locator):
    """Text put into a field, in place of what is there."""

    value: Input = Field(description="May hold references and `${capture:name}`; empty clears the field.")


class Select(Locator):
    """Options chosen of a list."""

    option: Words | list[Words] = Field(description="Label or value of the option, or of each.")


class Check(Locator):
    """A box or switch turned on, or off."""

    on: bool = Field(default=True, description="Whether it is on afterwards.")


def _key(combined: str) -> str:
    *modifiers, key = [*combined[:-1].split("+")[:-1], "+"] if combined[-1] == "+" else combined.split("+")
    for modifier in modifiers:
        if modifier not in _MODIFIERS:
            known = f"; there are: {', '.join(_MODIFIERS)}"
            raise ValueError(f"{modifier!r} is held down with no key{nearest(modifier, _MODIFIERS) or known}")
    if key not in _KEYS and not (len(key) == 1 and " " <= key <= "~"):
        known = "; write a character such as a, or Enter, Tab, Escape, ArrowDown, F5, ..."
        raise ValueError(f"{key!r} is no key{nearest(key, _KEYS) or known}")
    return combined


class Press(Rule):
    """A key pressed."""

    key: Annotated[Words, AfterValidator(_key)] = Field(description="Such as Enter, ArrowDown or Control+A.")
    at: At | None = Field(default=None, description="The element; where the focus is when not given.")


class Uploaded(Rule):
    """A file that is made up for an upload."""

    name: Words = Field(description="Its name.")
    content: Input = Field(default="", description="Its text, as UTF-8.")
    type: Words = Field(default="text/plain", description="Its media type.")


class Upload(Locator):
    """Files put into a file field."""

    files: list[Uploaded] = Field(min_length=1, max_length=10, description="What is uploaded.")


class Wait(Rule):
    """Something that has to happen; one of them."""

    duration: Duration | None = Field(default=None, gt=0, le=60.0, description="Time that passes.")
    visible: At | None = Field(default=None, description="It is shown.")
    hidden: At | None = Field(default=None, description="It is not shown, or not there.")
    url: Words | None = Field(default=None, description="Glob that the address fits, such as `**/done`.")
    load: Literal["domcontentloaded", "load", "networkidle"] | None = Field(
        default=None, description="How far the page is loaded."
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        names = tuple(type(self).model_fields)
        expect_one("wait", names, [name for name in names if getattr(self, name) is not None])
        return self


class Expect(Comparison):
    """Something that must become true of the page before the step's time is over."""

    called: ClassVar[str] = "expect"

    of: Literal[
        "visible", "hidden", "checked", "unchecked", "enabled", "disabled",
        "text", "value", "count", "url", "title", "response",
    ] = Field(
        default="visible",
        description="What is looked at. The first six take no operator; `response` is a status, 200 to 299 without one.",
    )  # fmt: skip
    at: At | None = Field(default=None, description="The element; not of url, title and response.")
    url: Words | None = Field(
        default=None, description="Glob of the response's address, such as `**/api/pay`."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        is_page = self.of in _OF_THE_PAGE
        if is_page is (self.at is not None):
            raise ValueError(f"`of: {self.of}` {'takes no' if is_page else 'needs'} `at`")
        if (self.of == "response") is (self.url is None):
            raise ValueError(f"`of: {self.of}` {'needs' if self.url is None else 'takes no'} `url`")
        if self.of in _STATES and (self._given() or self.not_):
            raise ValueError(f"`of: {self.of}` takes no operator; compare with `of: text`, value or count")
        if self.of in _STATES or (self.of == "response" and not self._given() and not self.not_):
            return self
        operator = self._expect_one()
        allowed = _OF_NUMBERS if self.of in _NUMBERS else _OF_TEXTS
        if operator not in allowed:
            raise ValueError(f"`of: {self.of}` takes {', '.join(allowed)}; got {operator}")
        self._expect_comparable(may_be_null=False)
        return self

    def _expect_type(self, operator: str, value: Any) -> None:
        number = self.of in _NUMBERS
        if number and type(value) is not int:
            raise ValueError(f"`of: {self.of}` is a whole number; got {value!r}")
        if not number and not isinstance(value, str):
            raise ValueError(f"`of: {self.of}` is text; got {value!r}; put it in quotes")


class Store(Hideable):
    """A value of the page, for later steps as `${capture:name}`."""

    name: CaptureName = Field(description="What it is called.")
    of: Literal["text", "value", "attribute", "url", "title"] = Field(
        default="text", description="What is kept."
    )
    at: At | None = Field(default=None, description="The element; not of url and title.")
    attribute: Words | None = Field(default=None, description="Which attribute of it.")
    matches: Words | None = Field(default=None, description="RE2 with one group: the part that is kept.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        is_page = self.of in _OF_THE_PAGE
        if is_page is (self.at is not None):
            raise ValueError(f"`of: {self.of}` {'takes no' if is_page else 'needs'} `at`")
        if (self.of == "attribute") is (self.attribute is None):
            raise ValueError(f"`of: {self.of}` {'takes no' if self.attribute else 'needs'} `attribute`")
        expect_one_group(self.matches)
        return self


def _goto(url: str) -> str:
    """Raises `ValueError` for what is neither an address nor a path; what a reference hides is judged when it is replaced."""
    if any(references(url)) or url.startswith(PLACE_FIRST) or (url[0] == "/" and url[:2] != "//"):
        return url
    if PLACE_FIRST in url:
        expect_own_host(url, url)
    if "://" not in url:
        raise ValueError(f"{url!r} is neither an http or https URL nor a path that begins with /")
    return request_url(url)


class JourneyStep(Rule):
    """One thing done, looked at or waited for: exactly one action."""

    name: Slug | None = Field(
        default=None, description="Its name in results; action and number when not given."
    )
    goto: Annotated[str, StringConstraints(min_length=1, max_length=4000), AfterValidator(_goto)] | None = (
        Field(
            default=None,
            description="Open an address, or a path of the journey's `url`. A capture is percent-encoded, or the whole address.",
        )
    )
    click: (
        Annotated[Click, BeforeValidator(short_for("text"), json_schema_input_type=Words | Click)] | None
    ) = Field(default=None, description="Click an element; text alone is short for `text`.")
    fill: Fill | None = Field(default=None, description="Put text into a field.")
    select: Select | None = Field(default=None, description="Choose an option.")
    check: (
        Annotated[Check, BeforeValidator(short_for("label"), json_schema_input_type=Words | Check)] | None
    ) = Field(default=None, description="Turn a box on or off; text alone is short for `label`.")
    press: (
        Annotated[Press, BeforeValidator(short_for("key"), json_schema_input_type=Words | Press)] | None
    ) = Field(
        default=None, description="Press a key, in an element or where the focus is; text alone is `key`."
    )
    hover: At | None = Field(default=None, description="Move the mouse over an element.")
    upload: Upload | None = Field(default=None, description="Put files into a file field.")
    wait: (
        Annotated[Wait, BeforeValidator(short_for("duration"), json_schema_input_type=Duration | Wait)] | None
    ) = Field(default=None, description="Wait for something, or for a while: `2s` is short for `duration`.")
    expect: (
        Annotated[Expect, BeforeValidator(short_for("at"), json_schema_input_type=Words | Expect)] | None
    ) = Field(default=None, description="What must become true; text alone is to be visible.")
    store: Store | None = Field(default=None, description="Keep a value for later steps.")
    screenshot: Slug | None = Field(default=None, description="Take a picture, called so.")
    use: Slug | None = Field(default=None, description="Do the steps of a list, called so.")
    timeout: Duration | None = Field(
        default=None, gt=0, le=300.0, description="Of this step; `step_timeout` when not given."
    )
    soft: bool = Field(default=False, description="Go on after it failed; the run fails all the same.")
    severity: Severity = Field(
        default="critical", description="What the run is when it fails; `warning` needs `soft`."
    )
    degraded_after: Duration | None = Field(default=None, gt=0, description="Slower than this is a warning.")

    @property
    def action(self) -> str:
        """The one that is given."""
        return next(action for action in ACTIONS if getattr(self, action) is not None)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        action = expect_one("a step", ACTIONS, [one for one in ACTIONS if getattr(self, one) is not None])
        if self.severity == "warning" and not self.soft:
            raise ValueError("severity warning needs `soft: true`: the journey goes on after a warning")
        if action == "use" and len(self.model_dump(exclude_defaults=True)) > 1:
            raise ValueError("a step that uses a list has nothing beside it; write that to its steps")
        return self


Steps = Annotated[list[JourneyStep], Field(max_length=MOST_STEPS)]


class Viewport(Rule):
    """The size of the window's inside, in CSS pixels."""

    width: int = Field(ge=200, le=4000, description="CSS pixels.")
    height: int = Field(ge=200, le=4000, description="CSS pixels.")


class Position(Rule):
    """Where the device says that it is."""

    latitude: float = Field(ge=-90, le=90, description="Degrees north.")
    longitude: float = Field(ge=-180, le=180, description="Degrees east.")


class Keeping(Rule):
    """`evidence:` of a browser beat: what is kept of its runs, for operators."""

    keep: Literal["failed", "always", "never"] = Field(
        default="failed", description="Of which runs pictures, console and page are kept."
    )
    trace: Literal["retry", "always", "never"] = Field(
        default="retry",
        description="Which attempts record trace, HAR and a picture of each step: those after the first, confirm and manual "
        "runs, and all where `retries` is 0; it costs about as much again.",
    )


Lists = dict[Slug, Annotated[Steps, Field(min_length=1)]]  # so that what multiplies has an end
Locale = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]
Attribute = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.:-]*$", max_length=100)]


def _blockable(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is no host; write one such as *.tracker.example, or third-party")
    return host


def _pattern(pattern: str) -> str:
    compile_pattern(pattern)
    return pattern


def _script(text: str) -> str:
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that mean nothing
            body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as wrong:
        line = f", line {wrong.lineno}" if isinstance(wrong, SyntaxError) and wrong.lineno else ""
        raise ValueError(
            f"script is not Python{line}: {getattr(wrong, 'msg', wrong) or 'too deep'}"
        ) from None
    if not any(isinstance(one, ast.AsyncFunctionDef) and one.name == "journey" for one in body):
        raise ValueError("script needs `async def journey(page, context, values, step)`")
    if any(references(text)):
        raise ValueError("script holds no references; write them to `values`, which it is given")
    return text


class Journey(Publishing):
    """What is done in a browser, and as whom. References are replaced before it is; captures while it is done."""

    url: RequestUrl | None = Field(default=None, description="Its site: paths of `goto` are of it.")
    steps: Steps = Field(
        default=[],
        description="What is done, in order, a `goto` first; the first failure ends it. Where a window opens, it goes on "
        "in that one until it closes.",
    )
    teardown: Steps = Field(
        default=[],
        description="Done whatever happened before, e.g. to log out; a step whose capture is missing is skipped.",
    )
    lists: Lists = Field(
        default={},
        max_length=MOST_LISTS,
        description="Steps that `use` names; those of the file are there as well.",
    )
    script: Annotated[str, StringConstraints(max_length=65_536), AfterValidator(_script)] | None = Field(
        default=None,
        description="Playwright for Python instead of steps: `async def journey(page, context, values, step)`. "
        "Only on probes that allow scripts and can confine them.",
    )
    step_timeout: Duration = Field(
        default=15.0,
        gt=0,
        le=300.0,
        description="Of each step without a `timeout`, but one that lets time pass; never more than is left of the run's.",
    )
    values: dict[CaptureName, Input] = Field(
        default={}, max_length=50, description="What a script is given as `values`; may hold references."
    )
    device: Literal["desktop", "phone", "tablet"] = Field(
        default="desktop", description="What it looks like to the site."
    )
    viewport: Viewport | None = Field(default=None, description="Instead of the device's.")
    user_agent: HeaderValue | None = Field(default=None, description="Instead of the device's.")
    locale: Locale = Field(default="en-US", description="Language and customs, such as de-DE.")
    timezone: Annotated[Words, AfterValidator(zone_name)] = Field(
        default="UTC", description="IANA name, such as Europe/Berlin."
    )
    geolocation: Position | None = Field(
        default=None, description="Granted to whoever asks; refused when not given."
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default={}, max_length=50, description="Sent with every request to the origins of `url` and `goto`."
    )
    auth: Auth | None = Field(
        default=None, description="Who asks, `basic` or `bearer`; sent to the origin of `url` only."
    )
    block: list[Annotated[Words, AfterValidator(_blockable)]] = Field(
        default=[],
        max_length=200,
        description="Hosts that are not reached, such as `*.tracker.example`; `third-party` is every host that is not of "
        "the site of `url` or a `goto`.",
    )
    dialogs: Literal["accept", "dismiss"] = Field(
        default="dismiss", description="What is done with alert, confirm and prompt."
    )
    test_id_attribute: Attribute = Field(
        default="data-testid", description="The attribute that `test_id` looks at."
    )
    verify: bool = Field(default=True, description="Whether certificates are verified.")
    ignore_console: list[Annotated[Words, AfterValidator(_pattern)]] = Field(
        default=[], max_length=50, description="RE2: messages of the console that are no errors."
    )

    @model_validator(mode="after")
    def _is_a_journey(self) -> Self:
        if bool(self.steps) is (self.script is not None):
            raise ValueError("a browser beat has steps, or a script")
        if self.script is not None and (self.teardown or self.lists):
            raise ValueError("a script has no teardown and lists; write `finally` and functions")
        if self.values and self.script is None:
            raise ValueError("values are of a script; steps hold references themselves")
        for name in self.headers:
            if name.lower() in _WRITTEN_BY_BROWSERS:
                raise ValueError(f"headers hold {name}, which the browser writes itself")
        if self.auth is not None and self.url is None:
            raise ValueError("auth needs `url`: it is sent to that origin only")
        if self.auth is not None and self.auth.oauth2 is not None:
            raise ValueError("auth takes basic or bearer; a browser fetches no token")
        if "third-party" in self.block and not self.begins:
            raise ValueError("block: third-party needs `url`, or a `goto` with an address")
        expect_captured(places(self.model_dump(include={"url", "headers", "auth", "values"})), ())
        self._expect_steps(named(self))
        return self

    def _expect_steps(self, steps: Sequence["Named"]) -> None:
        """Raises `ValueError` for what only shows of all steps in their order."""
        if steps and steps[0].step.goto is None:
            raise ValueError("steps begin with a `goto`, such as `goto: /` for the `url`")
        names = Counter(one.name for one in steps)
        pictures = Counter(one.step.screenshot for one in steps if one.step.screenshot)
        for what, counted in (("name", names), ("screenshot", pictures)):
            name, times = next(iter(counted.most_common(1)), ("", 0))
            if times > 1:
                raise ValueError(f"steps has two of the {what} {name}; a list that is used twice has none")
        for name in filter(_OWN_NAME.fullmatch, pictures):
            raise ValueError(f"steps take a screenshot {name}, as Upbeat calls a picture of its own")
        stored = dict[str, Store]()
        for name, step, _ in steps:
            said = step.model_dump(exclude_defaults=True)
            try:
                expect_captured(places(said), stored)
            except ValueError as missing:
                raise ValueError(f"steps cannot do {name}: {missing}") from None
            if step.goto and step.goto.startswith("/") and self.url is None:
                raise ValueError(f"steps need the journey's `url`: {name} opens the path {step.goto!r}")
            if step.store:
                stored[step.store.name] = step.store
        self.expect_published({one.step.store.name: one.step.store} for one in steps if one.step.store)

    @property
    def begins(self) -> str:
        """The address it opens first, or its site, as written; empty for a script without one."""
        return self.url or next((one.step.goto for one in named(self) if one.step.goto), "")


class Named(NamedTuple):
    """A step in its place, lists taken apart."""

    name: str
    step: JourneyStep
    is_teardown: bool


def named(journey: Journey) -> list[Named]:
    """The steps and teardown in their order, lists in their place, each with its name. Raises `ValueError`."""
    found: list[Named] = []

    def put(steps: Sequence[JourneyStep], within: tuple[str, ...], is_teardown: bool) -> None:
        for step in steps:
            if step.use is None:
                found.append(Named(step.name or f"{step.action}-{len(found) + 1}", step, is_teardown))
            elif step.use in within:
                raise ValueError(f"lists has {step.use}, which uses itself")
            elif step.use not in journey.lists:
                known = f"there are: {', '.join(journey.lists) or 'none'}"
                raise ValueError(
                    f"lists has no {step.use}, which a step uses{nearest(step.use, journey.lists) or '; ' + known}"
                )
            else:
                put(journey.lists[step.use], (*within, step.use), is_teardown)
            if len(found) > MOST_STEPS:
                raise ValueError(f"a journey has at most {MOST_STEPS} steps, those of lists included")

    put(journey.steps, (), False)
    put(journey.teardown, (), True)
    return found
