"""A script that `playwright codegen` recorded, as a `browser` beat: each of its lines becomes a step, or is named. Runs none of it.

What is read is Python's syntax tree; JavaScript as Playwright writes it is put into Python's words first. Neither is a
whole language: what does not go straight on is for people.
"""

import ast
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePath
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from pydantic import ValidationError

from rules.journey import MOST_STEPS, JourneyStep
from rules.secret import is_secret_name
from rules.shape import written
from upbeat.imports.draft import Draft
from upbeat.imports.source import Read, SourceError

_BY: Final = {
    "get_by_role": "role", "get_by_label": "label", "get_by_text": "text", "get_by_test_id": "test_id",
    "get_by_placeholder": "placeholder", "get_by_alt_text": "alt", "get_by_title": "title", "locator": "css",
}  # fmt: skip
_DONE: Final[dict[str, tuple[str, dict[str, Any]]]] = {  # to an element: the action, and what is beside the locator
    "click": ("click", {}), "dblclick": ("click", {"times": 2}), "hover": ("hover", {}), "clear": ("fill", {"value": ""}),
    "check": ("check", {}), "uncheck": ("check", {"on": False}),
}  # fmt: skip
_EXPECTED: Final = {  # what is looked at, and how it is compared
    "to_be_visible": ("visible", ""), "to_be_hidden": ("hidden", ""), "to_be_checked": ("checked", ""),
    "to_be_enabled": ("enabled", ""), "to_be_disabled": ("disabled", ""), "to_have_text": ("text", "eq"),
    "to_contain_text": ("text", "contains"), "to_have_value": ("value", "eq"), "to_be_empty": ("value", "empty"),
    "to_have_count": ("count", "eq"), "to_have_url": ("url", "eq"), "to_have_title": ("title", "eq"),
}  # fmt: skip
_PAIRS: Final = (("visible", "hidden"), ("checked", "unchecked"), ("enabled", "disabled"))
_OPPOSITE: Final = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}
_CONTEXT: Final[dict[str, tuple[str, type]]] = {
    "locale": ("locale", str), "timezone_id": ("timezone", str), "user_agent": ("user_agent", str),
    "viewport": ("viewport", dict), "geolocation": ("geolocation", dict),
}  # fmt: skip
_MEANS_NOTHING: Final = frozenset(
    {"close", "run", "storage_state", "log", "permissions", "is_mobile", "has_touch"}
)
_OPENS: Final = frozenset({"launch", "new_context", "new_page", "wait_for_event", "value", ""})
_FLAGS: Final = {"IGNORECASE": "i", "MULTILINE": "m", "DOTALL": "s"}
_PLAIN: Final = re.compile(r"(\^?)((?:[^\\.^$*+?()\[\]{}|]|\\\W)*)(\$?)")
_TOKEN: Final = re.compile(  # each has an end, though what it is of has none: nothing is looked at twice
    r"""(?P<string>'(?:\\.|[^'\\])*'?|"(?:\\.|[^"\\])*"?|`(?:\\.|[^`\\])*`?)|(?P<space>\s+|//[^\n]*|/\*.*?(?:\*/|\Z))"""
    r"|(?P<regex>(?<=[(\s])/(?![/*\s])(?:\\.|[^/\\\n])+/[a-z]*)|(?P<word>[A-Za-z_$][\w$]*)|\.\.\.|=>|.",
    re.DOTALL,
)
_IN_PYTHON: Final = {"true": "True", "false": "False", "null": "None", "undefined": "None", "...": "**"}
_NO_WORDS: Final = frozenset({"await", "const", "let", "var"})
_BLOCKS: Final = frozenset({"for", "if", "else", "while", "do", "try", "catch", "finally", "switch"})


class _UnconvertedError(Exception):
    """A line that no step does; says why."""


class _Call(NamedTuple):
    """`owner.name(*values, **named)`; the options that JavaScript puts into an object are named too."""

    name: str
    owner: ast.expr | None
    values: list[ast.expr]
    named: dict[str, ast.expr]

    def value(self, kind: Any = str) -> Any:
        """The first one."""
        return _literal(self.values[0] if self.values else None, kind)

    def option(self, name: str, default: Any = None, kind: Any = str) -> Any:
        """A named one."""
        return _literal(self.named[name], kind) if name in self.named else default


def read_script(text: str) -> Read:
    """A script as statements. Raises `SourceError`."""
    text = text.removeprefix("\ufeff")
    is_python = not re.search(r"^import .* from ['\"]|^const .*= require\(", text, re.MULTILINE)
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that mean nothing
            return Read(ast.parse(text).body if is_python else [*_javascript(text)], {})
    except (SyntaxError, ValueError, MemoryError, RecursionError) as wrong:
        where = f" (line {wrong.lineno})" if isinstance(wrong, SyntaxError) and wrong.lineno else ""
        said = f"it is neither Python nor JavaScript that can be read{where}"
        raise SourceError(f"{said}; record with `playwright codegen --target python`") from None


def take_codegen(source: list[ast.stmt], draft: Draft, name: str) -> None:
    """Each function that does something in a page becomes a beat. Raises `SourceError`."""
    functions = [one for one in source if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    loose = [one for one in source if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    are_several = sum(one.name.startswith("test_") for one in functions) > 1
    context = dict[str, Any]()  # a fixture of pytest is of every test
    is_found = False
    for called, body in (*((one.name, one.body) for one in functions), ("", loose)):
        recorded = _Recording(draft, f"{name}-{called[5:]}" if are_several else name, context)
        recorded.take(body)
        is_found |= recorded.keep()
    if not is_found:
        raise SourceError("it opens no page; a script that codegen records has page.goto(...)")


def recorded(text: str) -> tuple[dict[str, Any], list[str]]:
    """The first beat that a script becomes, as it is declared, and what people have to look at. Raises `ValueError`."""
    try:
        source = read_script(text)
        draft = Draft(source.lines)
        take_codegen(source.value, draft, "recorded")
    except SourceError as wrong:
        raise ValueError(str(wrong)) from None
    notes = [f"line {note.line}: {note.message}" if note.line else note.message for note in draft.notes]
    beats = [one for one in draft.document()[1].objects if one.kind == "beat"]
    if not beats:
        raise ValueError("; ".join(notes))
    return written(beats[0].spec), notes


class _Recording:
    """What one function does, as a beat to be."""

    def __init__(self, draft: Draft, name: str, context: dict[str, Any]) -> None:
        self._draft, self._name, self._spec = draft, name, context
        self._pages = ["page"]  # that are open; a journey is on the newest
        self._steps: list[dict[str, Any]] = []
        self._path, self._is_full = "", False

    def keep(self) -> bool:
        """Put the beat into the draft, its addresses as paths of its site; False where there is none."""
        opened = [step for step in self._steps if "goto" in step]
        if not opened:
            return False
        parts = urlsplit(self._spec.get("url") or opened[0]["goto"])
        site = f"{parts.scheme}://{parts.netloc}"
        for step in opened:
            if step["goto"].startswith(f"{site}/"):
                step["goto"] = step["goto"].removeprefix(site)
        slug, url = self._draft.slug("beat", self._name), site if parts.netloc else None
        self._draft.beat(
            "", {"slug": slug, "type": "browser", "url": url} | self._spec | {"steps": self._steps}
        )
        return True

    def take(self, statements: list[ast.stmt]) -> None:
        """Each statement in its order."""
        for statement in statements:
            if isinstance(statement, ast.With | ast.AsyncWith):
                self.take(statement.body)
            self._path = self._draft.place(f"steps[{len(self._steps)}]", statement.lineno)
            try:
                self._statement(statement)
            except _UnconvertedError as why:
                self._draft.note(self._path, f"{why} is left out: {_shown(statement)}")
            except RecursionError:
                self._draft.note(self._path, "what is nested so deeply is left out")

    def _statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.With() | ast.AsyncWith():
                for item in statement.items:
                    self._waited(_call_of(item.context_expr))
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._named(name, _call_of(value))
            case ast.Return(value=ast.Dict() as options):
                self._of_context(_entries(options))
            case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.Pass():
                pass
            case ast.Expr(value=value):
                self._done(_call_of(value))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                pass
            case _:
                raise _UnconvertedError("what does not go straight on")

    def _named(self, name: str, call: _Call) -> None:
        if call.name in ("new_context", "new_page"):
            self._of_context(call.named)
        if call.name == "new_page":
            if self._steps:
                raise _UnconvertedError("a page that is not opened by the site")
            self._pages = [name]
        elif call.name == "wait_for_event" and call.value() != "popup":
            raise _UnconvertedError(f"waiting for a {call.value()}")
        elif name.startswith("page") and call.name in ("value", ""):
            self._pages.append(name)
        elif (
            isinstance(call.owner, ast.Name)
            and call.owner.id in self._pages
            and call.name not in (*_BY, *_OPENS)
        ):
            self._done(call)  # such as an answer that is looked at

    def _waited(self, call: _Call) -> None:
        """`with page.expect_...(): ...`, whose body is done."""
        if call.name == "expect_response":
            self._step({"expect": {"of": "response", "url": call.value()}})
        elif call.name.startswith("expect_") and call.name != "expect_popup":
            raise _UnconvertedError(f"waiting for a {call.name.removeprefix('expect_')}")

    def _done(self, call: _Call) -> None:
        if call.name == "use":
            self._of_context(call.named)
        elif call.name == "close" and call.owner is not None and self._pages[1:] == [ast.unparse(call.owner)]:
            self._draft.note(self._path, f"goes back only where the site closes {self._pages.pop()} itself")
        elif call.owner is None or call.name in _MEANS_NOTHING:
            if not call.name:
                raise _UnconvertedError("what is no call")
        elif (expected := _call_of(call.owner)).name == "expect" and expected.values:
            self._step({"expect": self._expected(call, expected.values[0])}, call)
        elif (expected.name, call.name) == ("keyboard", "press"):
            self._step({"press": {"key": call.value()}}, call)
        elif self._is_page(call.owner):
            self._of_page(call)
        else:
            self._step(self._of_element(call, self._found(call.owner)), call)

    def _step(self, step: dict[str, Any], call: _Call | None = None) -> None:
        if call is not None and "timeout" in call.named:
            step["timeout"] = _seconds(call.named["timeout"])
        if len(self._steps) >= MOST_STEPS:
            if self._is_full:
                return
            self._is_full = True
            raise _UnconvertedError(f"all that comes after {MOST_STEPS} steps")
        try:
            JourneyStep.model_validate(step)
        except ValidationError as refused:
            said = str(refused.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
            raise _UnconvertedError(f"what no step takes ({said})") from None
        self._steps.append(step)

    # ---- what is found

    def _is_page(self, node: ast.expr) -> bool:
        name = node.id if isinstance(node, ast.Name) else ""
        if name in self._pages[:-1]:
            raise _UnconvertedError("what is done on another page than the newest")
        return name == self._pages[-1]

    def _found(self, node: ast.expr) -> dict[str, Any]:
        """A locator as it is written in a beat."""
        call = _call_of(node)
        if call.owner is None:
            raise _UnconvertedError("what finds no element")
        if call.name in ("first", "last", "nth"):
            nth = {"first": 0, "last": -1}[call.name] if call.name != "nth" else call.value(int)
            return self._found(call.owner) | {"nth": nth}
        if call.name == "filter" and list(call.named) == ["has_text"]:
            found = self._found(call.owner)
            if found.keys() & {"nth", "has_text"}:
                raise _UnconvertedError("a filter of a filter")
            return found | {"has_text": self._text(call.named["has_text"])}
        if call.name not in _BY or not call.values or call.named.keys() - {"name", "exact", "has_text"}:
            raise _UnconvertedError(f"{call.name} so, which is in no locator,")
        by, found = _BY[call.name], self._within(call.owner)
        found[by] = self._text(call.values[0])
        if by == "css" and re.match(r"xpath=|text=|id=|/|\.\.|.*>>", found[by]):
            raise _UnconvertedError("what is not found by CSS")
        if call.option("exact", default=False, kind=bool):
            found["exact"] = True
        return found | {one: self._text(call.named[one]) for one in call.named if one != "exact"}

    def _within(self, node: ast.expr) -> dict[str, Any]:
        """Where a locator looks: `inside` and `frame`."""
        if self._is_page(node):
            return {}
        call = _call_of(node)
        if call.owner is not None and call.name == "frame_locator":
            held, frame = self._within(call.owner), call.value()
        elif call.owner is not None and call.name == "content_frame":
            held = self._found(call.owner)
            frame = held.pop("css", "")
            if held.keys() - {"inside", "frame"}:
                raise _UnconvertedError("a frame that is not found by CSS alone")
        else:
            return {"inside": self._found(node)}
        return {"frame": frame} | ({"inside": {"css": "html"} | held} if "frame" in held else held)

    def _text(self, node: ast.expr) -> str:
        pattern = _pattern(node)
        if pattern is None:
            return str(_literal(node))
        plain = _PLAIN.fullmatch(pattern[0])
        if plain is None or not plain[2]:
            raise _UnconvertedError("a regular expression, which is in no locator,")
        if plain[1] or plain[3]:
            self._draft.note(self._path, f"finds {plain[2]!r} also as a part of the text")
        return re.sub(r"\\(\W)", r"\1", plain[2])

    # ---- what is done

    def _of_page(self, call: _Call) -> None:
        """What is done by the page itself, with no element."""
        first = call.values[0] if call.values else None
        match call.name:
            case "goto":
                url = self._draft.url(self._path, call.value(), self._name, self._spec)
                if url != "about:blank":
                    self._step({"goto": url}, call)
            case "wait_for_url":
                self._step({"wait": {"url": call.value()}}, call)
            case "wait_for_load_state":
                self._step({"wait": {"load": call.value() if first else "load"}}, call)
            case "wait_for_timeout":
                self._step({"wait": {"duration": _seconds(first)}})
            case "screenshot":
                slug = re.sub(r"[^a-z0-9]+", "-", PurePath(call.option("path", "")).stem.lower()).strip("-")
                is_taken = slug in ("", "failure") or {"screenshot": slug} in self._steps
                self._step({"screenshot": f"picture-{len(self._steps)}" if is_taken else slug}, call)
            case "on" | "once" if first and call.value() == "dialog":
                if ".accept(" in ast.unparse(call.values[-1]):
                    self._spec["dialogs"] = "accept"
            case _:
                raise _UnconvertedError(f"{call.name}, which no step does,")

    def _of_element(self, call: _Call, at: dict[str, Any]) -> dict[str, Any]:
        for option in call.named.keys() & {"modifiers", "position"}:
            self._draft.note(self._path, f"is done without its {option}")
        if call.name in _DONE:
            action, more = _DONE[call.name]
            return {action: at | more | {one: call.option(one) for one in call.named if one == "button"}}
        match call.name:
            case "fill" | "press_sequentially":
                return {"fill": at | {"value": self._typed(call, at)}}
            case "press":
                return {"press": {"key": call.value(), "at": at}}
            case "select_option":
                given = [*(call.named[one] for one in call.named if one in ("label", "value")), *call.values]
                return {"select": at | {"option": _literal(given[0] if given else None, (str, list))}}
            case "wait_for":
                return {"wait": {call.option("state", "visible"): at}}
            case "set_input_files":
                given = call.value((str, list, tuple))
                names = [PurePath(str(file)).name for file in ([given] if isinstance(given, str) else given)]
                self._draft.note(self._path, "uploads an empty file of that name: write its content")
                return {"upload": at | {"files": [{"name": name} for name in names]}}
        raise _UnconvertedError(f"{call.name}, which no step does,")

    def _typed(self, call: _Call, at: dict[str, Any]) -> str:
        value = str(call.value())
        is_secret = any(is_secret_name(word) for word in at.values() if isinstance(word, str))
        return self._draft.secret(self._path, value, self._name, "password") if is_secret else value

    def _expected(self, call: _Call, subject: ast.expr) -> dict[str, Any]:
        name = call.name.removeprefix("not_")
        is_negated, (of, operator) = name != call.name, _EXPECTED.get(name, ("", ""))
        if not of or (of in ("url", "title") and not self._is_page(subject)):
            raise _UnconvertedError(f"{name}, which is nothing to expect,")
        made: dict[str, Any] = {"at": self._found(subject)} if of not in ("url", "title") else {}
        if not operator:
            of = _OPPOSITE[of] if is_negated else of
            return made if of == "visible" else {"of": of} | made
        if call.values and (pattern := _pattern(call.values[0])) is not None:
            value: Any = f"(?{pattern[1]}){pattern[0]}" if pattern[1] else pattern[0]
            operator = "matches"
        else:
            value = operator == "empty" or call.value((str, int))
        return made | {"of": of, operator: value} | ({"not": True} if is_negated else {})

    # ---- as whom

    def _of_context(self, given: dict[str, ast.expr]) -> None:
        for key, node in given.items():
            try:
                self._option(self._draft.place(key, node.lineno), node)
            except _UnconvertedError as why:
                self._draft.note(key, f"{why} is left out")

    def _option(self, key: str, node: ast.expr) -> None:
        if key in _CONTEXT:
            name, kind = _CONTEXT[key]
            self._spec[name] = _literal(node, kind)
            if name == "geolocation":
                self._spec[name].pop("accuracy", None)
        elif key == "base_url":
            self._spec["url"] = self._draft.url(key, _address(_literal(node)), self._name, self._spec)
        elif key == "ignore_https_errors":
            self._spec["verify"] = not _literal(node, bool)
        elif key == "extra_http_headers":
            headers = {str(name): str(value) for name, value in _literal(node, dict).items()}
            self._spec["headers"] = self._draft.headers(key, headers, self._name)
        elif key == "http_credentials":
            name, password = (str(_literal(node, dict).get(one, "")) for one in ("username", "password"))
            password = self._draft.secret(key, password, self._name, "password")
            self._spec["auth"] = {"basic": {"username": name, "password": password}}
        elif key == "device":
            device = _literal(node)
            tablet = re.search(r"(?i)ipad|\btab\b|nexus (?:7|10)", device)
            self._spec[key] = "desktop" if "Desktop" in device else "tablet" if tablet else "phone"
            self._draft.note(key, f"{device!r} becomes `device: {self._spec[key]}`")
        elif key not in _MEANS_NOTHING or key == "storage_state":
            raise _UnconvertedError("what has no counterpart")


def _call_of(node: ast.expr) -> _Call:
    """A call taken apart, or an attribute as one of nothing; without a name where it is neither."""
    node = node.value if isinstance(node, ast.Await) else node
    if isinstance(node, ast.Attribute):
        return _Call(node.attr, node.value, [], {})
    if not isinstance(node, ast.Call):
        return _Call("", None, [], {})
    objects = [one for one in node.args if isinstance(one, ast.Dict)]
    named = {key: value for given in objects for key, value in _entries(given).items()}
    for keyword in node.keywords:
        named |= {keyword.arg: keyword.value} if keyword.arg else _spread(keyword.value)
    called = _call_of(node.func) if isinstance(node.func, ast.Attribute) else None
    name = called.name if called else ast.unparse(node.func)
    return _Call(name, called and called.owner, [one for one in node.args if one not in objects], named)


def _entries(node: ast.Dict) -> dict[str, ast.expr]:
    entries: dict[str, ast.expr] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        entries |= _spread(value) if key is None else {str(_literal(key, object)): value}
    return entries


def _spread(node: ast.expr) -> dict[str, ast.expr]:
    """`**playwright.devices["iPhone 13"]`."""
    return {"device": node.slice} if isinstance(node, ast.Subscript) else {}


def _literal(node: ast.expr | None, kind: Any = str) -> Any:
    with suppress(ValueError, TypeError, SyntaxError, RecursionError):
        value = ast.literal_eval(node or "")
        if isinstance(value, kind):
            return value
    raise _UnconvertedError("what is not written out")


def _seconds(node: ast.expr | None) -> float:
    """Of milliseconds."""
    return float(min(_literal(node, (int, float)), 1e9)) / 1000


def _address(url: str) -> str:
    with suppress(ValueError):
        if urlsplit(url).netloc:
            return url
    raise _UnconvertedError("what is no address")


def _pattern(node: ast.expr) -> tuple[str, str] | None:
    """The source and flags of `re.compile(...)`."""
    call = _call_of(node)
    if call.name != "compile" or not call.values:
        return None
    words = re.findall(r"\w+", ast.unparse(call.values[1])) if call.values[1:] else []
    flags = "".join(_FLAGS.get(word, word.lower()) for word in words if word != "re")
    return call.value(), re.sub(r"[^ims]", "", flags)


def _shown(statement: ast.stmt) -> str:
    with suppress(RecursionError):
        return ast.unparse(statement).partition("\n")[0][:200]
    return "what is nested so deeply"


def _javascript(text: str) -> Iterator[ast.stmt]:
    """The statements of a script in Python's words; a line that cannot be put so is a name that nothing has."""
    text = text.replace(").not.to", ").notTo")
    parts, depth, line, begun, last = list[str](), 0, 0, 0, ""
    for token in _TOKEN.finditer(text):
        kind, piece, after = token.lastgroup, token[0], text[token.end() : token.end() + 1]
        line += piece.count("\n")
        if kind == "space":
            ends = (
                "\n" in piece
                and not depth
                and last[-1:] in {")", "'", '"'}
                and after not in {".", "{", "?", "+"}
            )
            if not (ends and parts and parts[0] not in _BLOCKS):
                parts += [" "] if parts else []
                continue
            kind, piece = None, ";"
        is_end = not depth and kind is None and piece in ";)]}"
        is_function = kind is None and piece == "{" and (last == "=>" or (not depth and "function" in parts))
        if is_function or is_end:
            yield from [] if is_function else _in_python("".join(parts).strip(), begun)
            parts, depth, last = [], 0, ""  # what is around statements is none
            continue
        begun = begun if parts else line - piece.count("\n")
        if kind is None:
            depth += (piece in "([{") - (piece in ")]}")
        parts += [] if piece in _NO_WORDS else [_piece(kind, piece, is_key=depth > 0 and after == ":")]
        last = piece
        if piece == "}" and not depth and parts[0] in _BLOCKS:
            yield from _in_python("".join(parts), begun)
            parts = []
    yield from _in_python("".join(parts).strip(), begun)


def _piece(kind: str | None, piece: str, *, is_key: bool) -> str:
    if kind == "regex":
        source, _, flags = piece[1:].rpartition("/")
        return f"re.compile({source.replace(chr(92) + '/', '/')!r}, {flags!r})"
    if kind == "string" and piece[0] == "`":
        return f"f'{{{piece.count('$')}}}'" if "${" in piece else repr(piece[1:-1])
    if kind != "word" or piece in _IN_PYTHON:
        return _IN_PYTHON.get(piece, piece)
    word = re.sub(r"(?<=\w)(?:[A-Z]+(?![a-z])|[A-Z])", lambda found: f"_{found[0].lower()}", piece)
    return repr(word) if is_key else word


def _in_python(put: str, line: int) -> list[ast.stmt]:
    if not put.strip("()") or re.match(r"import\b|\{.*require\(", put):
        return []
    try:
        statements = ast.parse(put).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        statements = [ast.Expr(ast.Name(put.partition("\n")[0]), lineno=1, col_offset=0)]
    return [ast.increment_lineno(one, line) for one in statements]
