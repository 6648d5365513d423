"""Templates of public text: what is accepted renders in bounded time and size, everything else is refused when it is written."""

import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rules.comparison import is_kept
from rules.markdown import one_line
from rules.shape import WRITTEN
from rules.template import FILTERS, MAX_OUTPUT, VARIABLES, TemplateError, check, compile_template
from rules.trigger import Trigger
from rules.wording import VARIANTS, Templates, presets

VALUES: dict[str, Any] = {
    "what": "Checkout and Cart",
    "name": "Shop",
    "slug": "shop",
    "kind": "beat",
    "stage": "critical",
    "severity": "critical",
    "since": datetime(2026, 1, 31, 23, 5, tzinfo=UTC),
    "regions": ["eu-west", "us-east"],
    "evidence": "no connection",
    "components": [
        {"name": "*Checkout*", "slug": "checkout", "status": "major_outage"},
        {"name": "Cart", "slug": "cart", "status": "degraded_performance"},
    ],
    "page": {"name": "Shop", "slug": "shop"},
    "url": "https://example.com/",
    "captures": {"items": "a\nb", "city": "Aachen"},
}
BIG = VALUES | {
    "components": [{"name": "n" * 200, "slug": "s" * 63, "status": "major_outage"}] * 100,
    "regions": ["r" * 63] * 100,
    "captures": {f"c{n}": "v" * 200 for n in range(40)},
}


def rendered(source: str, *, is_markdown: bool = False, values: dict[str, Any] = VALUES) -> str:
    return compile_template(source, is_markdown=is_markdown).render(values, lambda: False)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ what }} since {{ since|at('%H:%M', 'Europe/Berlin') }}", "Checkout and Cart since 00:05"),
        ("{{ since }}", "2026-01-31 23:05 UTC"),
        ("{{ regions|join(' + ')|upper }}", "EU-WEST + US-EAST"),
        (
            (
                "{% for c in components if c.status == 'major_outage' %}{{ c.name }}{% if not loop.last %}, {% endif %}"
                "{% endfor %}"
            ),
            "*Checkout*",
        ),
        ("{{ 'worse' if severity == 'critical' else 'bad' }}", "worse"),
        ("{% if severity in ['warning'] %}a{% elif captures.city %}b{% else %}c{% endif %}", "b"),
        ("{{ captures.nothing|default('somewhere') }}", "somewhere"),
        ("{{ captures.items }}", "a b"),
        ("{{ (components|first).name }}", "*Checkout*"),
        ("{{ what|truncate(9) }}", "Checkout…"),
        ("{{ regions|length }}", "2"),
        ("{% raw %}{{ 7*7 }}{% endraw %} 100 % ${x}", "{{ 7*7 }} 100 % ${x}"),
    ],
)
def test_what_templates_say(source: str, said: str) -> None:
    assert rendered(source) == said


def test_values_are_data_in_markdown() -> None:
    assert (
        rendered("**{{ components[0].name }}** {{ captures.items }}", is_markdown=True)
        == "**\\*Checkout\\*** a b"
    )


def test_a_value_is_one_line() -> None:
    assert one_line("a\r\nb\x00\u202ec\u2028d\ud800 ") == "a b c d"


SSTI = [
    "{{7*7}}",
    "{{7*'7'}}",
    "{{ 2 ** 9999999 }}",
    "{{ 'a' * 10000000 }}",
    "{{ '%1000000s' % what }}",
    "{{ '%s' % what }}",
    "{{ what % what }}",
    "{{ what ~ what }}",
    "{{ [1] + [2] }}",
    "{{ -1 }}",
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ what.__class__.__mro__[1].__subclasses__() }}",
    "{{ what|attr('__class__') }}",
    "{{ (components|first).__init__ }}",
    "{{ components.append }}",
    "{{ components[0].items() }}",
    "{{ regions|map('upper')|list }}",
    "{{ regions|map(attribute='__class__')|list }}",
    "{{ what|format(1) }}",
    "{{ '{0.__class__}'.format(what) }}",
    "{{ what|replace('a', 'aaaaaaaa') }}",
    "{{ what|center(100000000) }}",
    "{{ what|indent(100000000) }}",
    "{{ what|wordwrap(1) }}",
    "{{ what|pprint }}",
    "{{ what|tojson }}",
    "{{ what|safe }}",
    "{{ what|xmlattr }}",
    "{{ what|upper|lower|attr('x') }}",
    "{{ what|truncate(what) }}",
    "{{ what|truncate(999999999999) }}",
    "{{ regions|join('" + "x" * 101 + "') }}",
    "{{ regions|join(d=', ') }}",
    "{{ regions|join(*regions) }}",
    "{{ regions|join(5) }}",
    "{{ [" + "components, " * 600 + "]|upper|lower|upper }}",
    "{{ (what, what)|length }}",
    "{% for _allowance in regions %}{% for b in components %}{% endfor %}{% endfor %}",
    "{{ range(999999999) }}",
    "{% for i in range(10) %}{% endfor %}",
    "{% for c in what %}{% endfor %}",
    "{% for a, b in components %}{% endfor %}",
    "{% for c in components recursive %}{{ loop(c) }}{% endfor %}",
    "{% for a in regions %}{% for b in regions %}{% for c in regions %}x{% endfor %}{% endfor %}{% endfor %}",
    "{% for c in components %}{{ loop.cycle('a') }}{{ loop.previtem }}{% endfor %}",
    "{% for what in regions %}{% endfor %}",
    "{% for loop in regions %}{% endfor %}",
    "{% set x = 1 %}",
    "{% set x %}a{% endset %}",
    "{% macro a() %}{{ a() }}{% endmacro %}",
    "{% call what() %}{% endcall %}",
    "{% filter upper %}a{% endfilter %}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% extends 'x' %}",
    "{% block a %}{% endblock %}",
    "{% with x = 1 %}{% endwith %}",
    "{% autoescape true %}{% endautoescape %}",
    "{% do what %}",
    "{% debug %}",
    "{{ self }}",
    "{{ self._TemplateReference__context }}",
    "{{ config }}",
    "{{ request.application.__globals__ }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ namespace() }}",
    "{{ dict(a=1) }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ _allowance }}",
    "{{ regions|_counted }}",
    "{{ what is defined }}",
    "{{ what[0:9] }}",
    "{{ {'a': 1} }}",
    "{{ captures[severity] }}",
    "{{ since|at('%') }}",
    "{{ since|at('%1000000d') }}",
    "{{ since|at('%H', '../../etc/passwd') }}",
    "{{ " + "(" * 2000 + "what" + ")" * 2000 + " }}",
    "{{ " + "not " * 1000 + "what }}",
    "{{ what" + "|upper" * 500 + " }}",
    "{{ " + "9" * 6000 + " }}",
    "{{ 0x" + "f" * 6000 + " }}",
    "{{ 1e999 }}",
    "{% if what %}" * 40 + "{% endif %}" * 40,
    "{{ what",
    "{% endif %}",
    "{# never closed",
    "\x00",
    "\ud800",
    "é" * 5000,
]


@pytest.mark.parametrize("source", SSTI, ids=lambda source: ascii(source[:40]))
def test_what_leads_into_python_or_grows_is_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        check(source)


@pytest.mark.parametrize(
    "payload", [source for source in SSTI if is_kept(source)], ids=lambda payload: ascii(payload[:40])
)
def test_a_template_in_a_value_is_text(payload: str) -> None:
    values = VALUES | {"captures": {"host": payload}}
    assert rendered("{{ captures.host }}", values=values) == one_line(payload)


def test_a_misspelled_name_is_told() -> None:
    with pytest.raises(TemplateError, match="there is no variable severty; did you mean severity"):
        check("{{ severty }}")
    with pytest.raises(TemplateError, match="line 2: there is no filter uper; did you mean upper"):
        check("\n{{ what|uper }}")


def test_what_is_stored_stays_readable_whatever_is_allowed_now() -> None:
    written = {"open": {"preset": "gone", "text": "{{ 7*7 }}"}, "update": {"text": "{{ captures.x }}"}}
    stored = Templates.model_validate(written)
    assert [words.templates for words in stored.of("open")] == [(None, "{{ 7*7 }}")]
    with pytest.raises(ValidationError, match="arithmetic"):
        Templates.model_validate({"open": {"text": "{{ 7*7 }}"}}, context=WRITTEN)
    rule = {
        "inbox": "i",
        "fingerprint": "single",
        "critical": True,
        "recovery": False,
        "target": {"external": "e"},
    }
    Trigger.model_validate({"slug": "t", **rule, "templates": written})
    with pytest.raises(ValidationError, match="x is no published value"):
        Trigger.model_validate(
            {"slug": "t", **rule, "templates": {"open": {"text": "{{ captures.x }}"}}}, context=WRITTEN
        )


def test_captures_that_are_asked_for_are_known() -> None:
    assert check("{{ captures.a }}{% for r in regions %}{{ captures['b'] }}{% endfor %}") == {"a", "b"}


def test_more_than_is_allowed_is_not_said() -> None:
    text = "{% for a in regions %}{% for b in components %}{{ b.name }}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateError, match=f"more than {MAX_OUTPUT} bytes"):
        rendered(text, values=BIG)


def test_loops_take_a_bounded_number_of_turns() -> None:
    loop = "{% for a in regions %}{% for b in components %}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateError, match="turns"):
        rendered(loop * 2, values=BIG)


def test_a_rendering_ends_when_its_time_is_over() -> None:
    left = iter([False] * 5 + [True] * 100)
    with pytest.raises(TemplateError, match="too long"):
        compile_template("{% for r in regions %}{% endfor %}", is_markdown=False).render(
            BIG, lambda: next(left)
        )


def test_every_variable_is_there() -> None:
    for path in VARIABLES:
        name = path.partition(".")[0].removesuffix("[]")
        assert name in VALUES
        check(f"{{{{ {path.replace('[]', '[0]')} }}}}")


@pytest.mark.parametrize("slug", presets())
def test_every_preset_says_something(slug: str) -> None:
    use = presets()[slug].use
    (words,) = Templates.model_validate({use: slug}).of(use)
    for source in filter(None, words.templates):
        assert rendered(source)
        assert "{" not in rendered(source)


def test_kinds_of_updates_fall_back_to_update() -> None:
    templates = Templates.model_validate({"update": {"text": "u"}, "member": {"title": "m"}})
    assert [words.text for words in templates.of("reopened")] == ["u"]
    assert [words.text or words.title for words in templates.of("member")] == ["m", "u"]
    assert not list(templates.of("open"))


NAMES = st.sampled_from(
    [
        "what",
        "severity",
        "regions",
        "components",
        "captures.a",
        "components[0].name",
        "since",
        "page.name",
        "x",
        "c.name",
    ]
)
FILTER = st.sampled_from(
    [*FILTERS, "join('ab')", "default('q')", "truncate(3)", "at('%H')", "round(2)", "replace('a','b')"]
)
EXPRESSION = st.recursive(
    st.one_of(NAMES, st.sampled_from(["1", "'a'", "loop.index", "7*7"])),
    lambda inner: st.one_of(
        st.tuples(inner, FILTER).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["==", "<", "in", "and", "or", "~", "+"]), inner).map(" ".join),
        inner.map(lambda one: f"(not {one})"),
    ),
    max_leaves=6,
)
SOURCE = st.recursive(
    st.one_of(st.text(max_size=10), EXPRESSION.map(lambda one: f"{{{{ {one} }}}}")),
    lambda inner: st.one_of(
        st.tuples(EXPRESSION, inner).map(lambda two: f"{{% if {two[0]} %}}{two[1]}{{% endif %}}"),
        inner.map(lambda one: f"{{% for c in components %}}{one}{{% endfor %}}"),
        inner.map(lambda one: f"{{% for x in regions %}}{one}{{% endfor %}}"),
        st.tuples(inner, inner).map("".join),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(SOURCE, st.booleans())
def test_what_is_accepted_is_rendered_within_its_bounds(source: str, is_markdown: bool) -> None:
    try:
        check(source)
    except TemplateError:
        return
    ends = time.thread_time() + 0.05
    try:
        said = compile_template(source, is_markdown=is_markdown).render(
            BIG, lambda: time.thread_time() > ends
        )
    except (TemplateError, TypeError, ValueError, OverflowError):
        said = ""
    assert len(said.encode()) <= MAX_OUTPUT
    assert time.thread_time() < ends + 0.5


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="{}%# |()[]'\"abw.hat_,*-~0987\n", max_size=60))
def test_anything_else_is_refused_or_text(source: str) -> None:
    try:
        check(source)
    except TemplateError:
        return
    with contextlib.suppress(TemplateError, TypeError, ValueError, OverflowError):
        assert len(rendered(source)) <= MAX_OUTPUT


def test_every_variant_has_a_key() -> None:
    assert set(VARIANTS) == set(Templates.model_fields)
