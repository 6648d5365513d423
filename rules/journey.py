"""What a customer does in a browser, step by step, as operators write it. Doing it is `engine.browser.inside`."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from rules.assertion import HeaderName, HeaderValue, Severity
from rules.capture import CaptureName, Publishing
from rules.comparison import Comparison
from rules.duration import Duration
from rules.locator import At, Locator, Words, by_text
from rules.shape import Rule, Slug, expect_one
from rules.target import RequestUrl

MOST_STEPS: Final = 100
ACTIONS: Final = (
    "goto", "click", "fill", "select", "check", "press", "hover", "upload",
    "wait", "expect", "store", "screenshot", "use",
)  # fmt: skip
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


class Press(Locator):
    """A key pressed in an element."""

    key: Words = Field(description="Such as Enter, ArrowDown or Control+A.")


class File(Rule):
    """A file that is made up for an upload."""

    name: Words = Field(description="Its name.")
    content: Input = Field(default="", description="Its text, as UTF-8.")
    type: Words = Field(default="text/plain", description="Its media type.")


class Upload(Locator):
    """Files put into a file field."""

    files: list[File] = Field(min_length=1, max_length=10, description="What is uploaded.")


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

    of: Literal["visible", "hidden", "text", "value", "count", "url", "title", "response"] = Field(
        default="visible",
        description="What is looked at; `visible` and `hidden` take no operator, `response` is a status, 2xx without one.",
    )
    at: At | None = Field(default=None, description="The element; not of url, title and response.")
    url: Words | None = Field(
        default=None, description="Glob of the response's address, such as `**/api/pay`."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        is_page = self.of in ("url", "title", "response")
        if is_page is (self.at is not None):
            raise ValueError(f"`of: {self.of}` {'takes no' if is_page else 'needs'} `at`")
        if (self.of == "response") is (self.url is None):
            raise ValueError(f"`of: {self.of}` {'needs' if self.url is None else 'takes no'} `url`")
        if self.of in ("visible", "hidden") or (self.of == "response" and not self._given()):
            if self._given() or self.not_:
                raise ValueError(f"`of: {self.of}` takes no operator; the other is hidden, or visible")
            return self
        self._expect_one()
        self._expect_comparable(may_be_null=False)
        return self

    def _expect_type(self, operator: str, value: Any) -> None:
        number = self.of in ("count", "response")
        if number and type(value) is not int:
            raise ValueError(f"`of: {self.of}` is a whole number; got {value!r}")
        if not number and not isinstance(value, str):
            raise ValueError(f"`of: {self.of}` is text; got {value!r}; put it in quotes")


class Store(Rule):
    """A value of the page, for later steps as `${capture:name}`."""

    name: CaptureName = Field(description="What it is called.")
    of: Literal["text", "value", "attribute", "url", "title"] = Field(
        default="text", description="What is kept."
    )
    at: At | None = Field(default=None, description="The element; not of url and title.")
    attribute: Words | None = Field(default=None, description="Which attribute of it.")
    matches: Words | None = Field(default=None, description="RE2 with one group: the part that is kept.")
    secret: bool | None = Field(
        default=None, description="Hidden in all that is kept; by its name when not given."
    )


class JourneyStep(Rule):
    """One thing done, looked at or waited for: exactly one action."""

    name: Slug | None = Field(
        default=None, description="Its name in results; action and number when not given."
    )
    goto: Annotated[str, StringConstraints(min_length=1, max_length=4000)] | None = Field(
        default=None, description="Address, or a path of the journey's `url`."
    )
    click: Annotated[Click, BeforeValidator(by_text, json_schema_input_type=Words | Click)] | None = Field(
        default=None, description="Click an element."
    )
    fill: Fill | None = Field(default=None, description="Put text into a field.")
    select: Select | None = Field(default=None, description="Choose an option.")
    check: Annotated[Check, BeforeValidator(by_text, json_schema_input_type=Words | Check)] | None = Field(
        default=None, description="Turn a box on or off."
    )
    press: Press | Words | None = Field(
        default=None, description="Press a key, in an element or where the focus is."
    )
    hover: At | None = Field(default=None, description="Move the mouse over an element.")
    upload: Upload | None = Field(default=None, description="Put files into a file field.")
    wait: Wait | None = Field(default=None, description="Wait for something, or for a while.")
    expect: Expect | None = Field(default=None, description="What must be true of the page.")
    store: Store | None = Field(default=None, description="Keep a value for later steps.")
    screenshot: Slug | None = Field(default=None, description="Take a picture, called so.")
    use: Slug | None = Field(default=None, description="Do the steps of a list, called so.")
    timeout: Duration | None = Field(
        default=None, gt=0, le=300.0, description="Of this step; the journey's when not given."
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
        if action == "use" and (self.name or self.soft or self.timeout or self.degraded_after):
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


class BasicAuth(Rule):
    """Who asks, where the site wants HTTP authentication."""

    user: Words = Field(description="Name; may hold references.")
    password: Words = Field(description="A reference such as `${secret:shop}`.")


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


class Journey(Publishing):
    """What is done in a browser, and as whom. References are replaced before it is; captures while it is done."""

    url: RequestUrl | None = Field(default=None, description="Where it begins; paths of `goto` are of it.")
    steps: Steps = Field(default=[], description="What is done, in order; the first failure ends it.")
    teardown: Steps = Field(default=[], description="Done whatever happened before, e.g. to log out.")
    lists: dict[Slug, Steps] = Field(
        default={}, max_length=20, description="Steps that `use` names, once or often."
    )
    script: Annotated[str, StringConstraints(max_length=65_536)] | None = Field(
        default=None,
        description="Playwright for Python instead of steps: `async def journey(page, context, values, step)`. "
        "Only on probes that allow scripts and can confine them.",
    )
    values: dict[CaptureName, Input] = Field(
        default={}, max_length=50, description="What a script is given as `values`; may hold references."
    )
    device: Literal["desktop", "phone", "tablet"] = Field(
        default="desktop", description="What it looks like to the site."
    )
    viewport: Viewport | None = Field(default=None, description="Instead of the device's.")
    user_agent: HeaderValue | None = Field(default=None, description="Instead of the device's.")
    locale: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] = Field(
        default="en-US", description="Language and customs, such as de-DE."
    )
    timezone: Words = Field(default="UTC", description="IANA name, such as Europe/Berlin.")
    geolocation: Position | None = Field(
        default=None, description="Granted to whoever asks; refused when not given."
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default={}, max_length=50, description="Sent with every request to the origins of `url` and `goto`."
    )
    auth: BasicAuth | None = Field(
        default=None, description="HTTP authentication, sent to the origin of `url` only."
    )
    block: list[Words] = Field(
        default=[],
        max_length=200,
        description="Hosts that are not reached, such as `*.tracker.example`; `third-party` is every host that is not of "
        "the site of `url` or a `goto`.",
    )
    dialogs: Literal["accept", "dismiss"] = Field(
        default="dismiss", description="What is done with alert, confirm and prompt."
    )
    test_id_attribute: Words = Field(
        default="data-testid", description="The attribute that `test_id` looks at."
    )
    verify: bool = Field(default=True, description="Whether certificates are verified.")
    ignore_console: list[Words] = Field(
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
        names = [step.name for step in named(self)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"steps has two of the name {name}; a list that is used twice has no names")
        return self


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
                raise ValueError(f"the list {step.use} uses itself")
            elif step.use not in journey.lists:
                known = ", ".join(journey.lists) or "none"
                raise ValueError(f"there is no list {step.use} to use; there are: {known}")
            else:
                put(journey.lists[step.use], (*within, step.use), is_teardown)
            if len(found) > MOST_STEPS:
                raise ValueError(f"a journey has at most {MOST_STEPS} steps, those of lists included")

    put(journey.steps, (), False)
    put(journey.teardown, (), True)
    return found
