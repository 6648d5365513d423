"""What people are never shown of what others sent."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.redaction import Redaction, hidden_text, is_hidden, is_hidden_name, masked_message
from rules.reference import parse_reference
from rules.secret import is_secret_name
from rules.trigger import Trigger

CANARY = "canary-9f8e7d6c5b4a"


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "api_key",
        "X-Api-Key",
        "Authorization",
        "accessToken",
        "client_secret",
        "Set-Cookie",
        "routing_key",
        "pwd",
        "passphrase",
        "db_pass",
    ],
)
def test_names_of_secrets_are_hidden(name: str) -> None:
    assert Redaction().document({name: CANARY, "a": [{name: [CANARY]}]}) == {
        name: "***",
        "a": [{name: ["***"]}],
    }


@pytest.mark.parametrize(
    "name",
    ["author", "authors", "groupKey", "dedup_key", "key", "alert_cycle_key", "issue-key", "idempotency-key"],
)
def test_what_only_sounds_like_a_secret_is_shown(name: str) -> None:
    assert is_secret_name(name)
    assert not is_hidden_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + CANARY,
        "Authorization: Bearer " + CANARY,
        "AKIAIOSFODNN7EXAMPLE",
        "https://bob:" + CANARY + "@db.example/x",
        "https://hook.example/?api_token=" + CANARY,
        "https://hooks.slack.com/services/T000/B000/" + CANARY,
        "https://upbeat.example/api/v1/external-events/ingest/" + CANARY,
        "-----BEGIN RSA PRIVATE KEY-----\n" + CANARY + "\n-----END RSA PRIVATE KEY-----",
        "upi_" + "a1B2" * 12,
        "upb_" + "a1B2" * 12,
        '{"password": "' + CANARY + '"}',
        '{"inner": "{\\"token\\": \\"' + CANARY + '\\"}"}',
    ],
)
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(text: str) -> None:
    redaction = Redaction()
    shown = msgspec.json.encode(redaction.document({"note": text})).decode()
    assert CANARY not in shown
    assert text not in shown
    assert redaction.hidden == ["$.note"]
    assert CANARY not in str(redaction.derived(f"it says {text}"))


def test_the_tree_keeps_its_shape_and_says_where_something_was_hidden() -> None:
    redaction = Redaction(["$.customer", "$..email"])
    body = {
        "customer": {"id": 7, "vip": True, "none": None},
        "to": [{"email": "a@b.example"}],
        "auth": {"ok": True},
    }
    assert redaction.document(body) == {
        "customer": {"id": "***", "vip": "***", "none": None},
        "to": [{"email": "***"}],
        "auth": {"ok": True},
    }
    assert redaction.hidden == ["$.customer.id", "$.customer.vip", "$.to[0].email"]


def test_a_list_of_names_and_values_is_read_as_the_object_it_is() -> None:
    aws = [{"Name": "DBPassword", "Value": CANARY}]
    assert Redaction().document(aws) == [{"Name": "DBPassword", "Value": "***"}]
    fields = [{"key": "api_token", "value": CANARY}, {"name": "team", "value": "ops"}]
    assert Redaction().document(fields) == [
        {"key": "api_token", "value": "***"},
        {"name": "team", "value": "ops"},
    ]


def test_where_a_path_cannot_be_followed_all_is_hidden() -> None:
    redaction = Redaction(["$..a..b"])
    wide = {"a": [{"a": [{"b": n} for n in range(300)]} for _ in range(300)]}
    assert not re.search(r"\d", msgspec.json.encode(redaction.document(wide)).decode())


def test_headers_and_queries_are_hidden_alike() -> None:
    redaction = Redaction()
    assert redaction.headers([["X-Token", CANARY], ["X-Kind", "alert"]]) == [
        ["X-Token", "***"],
        ["X-Kind", "alert"],
    ]
    assert redaction.query(f"env=prod&api_key={CANARY}") == "env=prod&api_key=***"
    assert CANARY not in redaction.derived(f"x {CANARY} y")


def test_what_no_json_holds_is_shown_as_text() -> None:
    assert Redaction().document({"n": 2**80, "half": "\ud800"}) == {"n": str(2**80), "half": "?"}


def test_a_message_has_no_value_that_is_hidden() -> None:
    rule = Trigger.model_validate(
        {
            "slug": "a",
            "inbox": "i",
            "fingerprint": "{$.host}",
            "critical": True,
            "recovery": False,
            "target": {"external": "x"},
            "values": {"pin": "$.api_key", "host": "$.host"},
            "message": "{{}} {$.host} {$.password} {value:pin} {value:host} {$.customer.name}",
        }
    )
    assert masked_message(rule, ["$.customer"]) == "{{}} {$.host} *** *** {value:host} ***"


@pytest.mark.parametrize(
    ("reference", "path", "each", "hides"),
    [
        ("$.user", "$.user", None, True),
        ("$['user'].name", "$.user", None, True),
        ("$.a", "$.a.b", None, True),
        ("$", "$.a.b", None, True),
        ("$.x[-1].user", "$.x[0]['user']", None, True),
        ("$..user", "$.a.b", None, True),
        ("$.a.b", "$..b", None, True),
        ("value:who", "$.user", None, True),
        ("text", "$.user", None, True),
        ("$.user", "$.list[*].user", "$.list[*]", True),
        ("$.user", "$.list[*].user", "$.list", True),
        ("$.user", "$.list.user", "$.list", True),
        ("$.user", "$.list[0]", "$.list", True),
        ("body:$.list", "$.list[*].user", "$.list", True),
        ("$.host", "$.user", None, False),
        ("$.users", "$.user", None, False),
        ("$.host", "$.list[*].user", "$.list[*]", False),
        ("$.host", "$.list[*].user", "$.list", False),
        ("$.user", "$.user", "$.list[*]", False),
        ("header:x-host", "$.user", None, False),
    ],
)
def test_a_reference_may_reach_what_is_hidden(
    reference: str, path: str, each: str | None, *, hides: bool
) -> None:
    rule = Trigger.model_validate(
        {
            "slug": "a",
            "inbox": "i",
            "each": each,
            "fingerprint": "{$.host}",
            "critical": True,
            "recovery": False,
            "target": {"external": "x"},
            "values": {"who": "$.user"},
        }
    )
    assert is_hidden(rule, parse_reference(reference), [path]) is hides


NAMES = st.sampled_from(["host", "status", "tags", "a b", "password", "token", "labels"])
SECRET = st.from_regex(r"cnry[a-z0-9]{12}", fullmatch=True)


@st.composite
def documents(draw: st.DrawFn) -> tuple[object, set[str]]:
    """A document, and what of it stands under the name of a secret."""
    secrets: set[str] = set()

    def made(depth: int, *, hidden: bool) -> object:
        kind = draw(st.sampled_from(["text", "list", "object"] if depth < 4 else ["text"]))
        if kind == "text":
            if hidden:
                secret: str = draw(SECRET)
                secrets.add(secret)
                return secret
            return draw(st.sampled_from(["up", "down", 5, None, True]))
        if kind == "list":
            return [made(depth + 1, hidden=hidden) for _ in range(draw(st.integers(0, 3)))]
        names = draw(st.lists(NAMES, max_size=3, unique=True))
        return {name: made(depth + 1, hidden=hidden or name in ("password", "token")) for name in names}

    return made(0, hidden=False), secrets


@given(documents())
def test_no_secret_survives_in_the_tree_nor_in_what_is_made_of_it(drawn: tuple[object, set[str]]) -> None:
    document, secrets = drawn
    redaction = Redaction()
    shown = msgspec.json.encode(redaction.document(document)).decode()
    derived = msgspec.json.encode(
        redaction.derived({"actual": document, "message": f"it is {document}"})
    ).decode()
    for secret in secrets:
        assert secret not in shown
        assert secret not in derived


@given(st.text(max_size=200))
def test_hiding_is_total(text: str) -> None:
    hidden_text(text)
    Redaction(["$..a"]).document([text, {text: text}])
    Redaction().query(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see http://127.0.0.1:18080/x?a=1 now", "see http://127.0.0.1:18080/x?a=1 now"),
        ("(http://h:80). http://[::1]:8080/a", "(http://h:80). http://[::1]:8080/a"),
        ("http://a:8080/u/me@x.example", "http://a:8080/u/me@x.example"),
        ("postgres://u:s3cr/et@db/x", "postgres://u:***@db/x"),
        ("postgres://u:1234@db", "postgres://***@db"),
        ("amqp://u:12ab", "amqp://u:***"),
    ],
)
def test_a_port_is_shown_and_a_password_in_an_address_is_not(text: str, shown: str) -> None:
    assert hidden_text(text) == shown
