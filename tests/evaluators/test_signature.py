"""Signatures of deliveries: what senders document, what others compute, and everything that is none."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError
from standardwebhooks.webhooks import Webhook

from evaluators.signature import MOST_SIGNATURES, Verifier
from rules.signature import PRESETS, Preset, Signature

Headers = list[tuple[str, str]]
NOW = 1_700_000_000.0
BODY = b'{"alert": "\xc3\xbc", "raw": "\xff\x00"}'
SLACK = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
    b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url="
    b"https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id="
    b"398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)


def verifier(*secrets: str, **given: Any) -> Verifier:
    rule = Signature.model_validate({"secrets": list(secrets) or ["k"], **given})
    return Verifier(rule, rule.secrets)


def mac(body: bytes, key: str = "k", algorithm: str = "sha256") -> str:
    return hmac.new(key.encode(), body, algorithm).hexdigest()


@pytest.mark.parametrize(
    ("preset", "secret", "headers", "body", "at"),
    [
        pytest.param(
            "github",
            "It's a Secret to Everybody",
            [
                (
                    "X-Hub-Signature-256",
                    "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
                )
            ],
            b"Hello, World!",
            NOW,
            id="github",
        ),
        pytest.param(
            "slack",
            "8f742231b10e8888abcd99yyyzzz85a5",
            [
                ("X-Slack-Request-Timestamp", "1531420618"),
                (
                    "X-Slack-Signature",
                    "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
                ),
            ],
            SLACK,
            1531420618.0,
            id="slack",
        ),
        pytest.param(
            "svix",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            [
                ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("svix-timestamp", "1614265330"),
                ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ],
            b'{"test": 2432232314}',
            1614265330.0,
            id="svix",
        ),
    ],
)
def test_what_senders_document_is_good(
    preset: str, secret: str, headers: Headers, body: bytes, at: float
) -> None:
    assert verifier(secret, preset=preset).is_signed(headers, body, at)
    assert not verifier(secret, preset=preset).is_signed(headers, body + b" ", at)


def test_what_the_library_of_standard_webhooks_signs_is_good() -> None:
    for number in range(20):
        secret = "whsec_" + base64.b64encode(hashlib.sha256(bytes([number])).digest()).decode()
        body = f'{{"n": {number}, "text": "ü"}}'
        signature = Webhook(secret).sign(f"msg_{number}", datetime.fromtimestamp(NOW, UTC), body)
        headers = [
            ("Webhook-Id", f"msg_{number}"),
            ("Webhook-Timestamp", str(int(NOW))),
            ("Webhook-Signature", "v1a,AAAA v1,AAAA " + signature),
        ]
        assert verifier(secret, preset="standard-webhooks").is_signed(headers, body.encode(), NOW)


SIGNED: dict[Preset, Headers] = {
    "bitbucket": [("X-Hub-Signature", f"sha256={mac(BODY)}")],
    "buildkite": [("X-Buildkite-Signature", f"timestamp=1700000000,signature={mac(b'1700000000.' + BODY)}")],
    "checkly": [("x-checkly-signature", mac(BODY))],
    "circleci": [("circleci-signature", f"v1={mac(BODY)}")],
    "github": [("X-Hub-Signature-256", f"sha256={mac(BODY)}")],
    "grafana": [("X-Grafana-Alerting-Signature", mac(BODY))],
    "heroku": [
        ("Heroku-Webhook-Hmac-SHA256", base64.b64encode(bytes.fromhex(mac(BODY))).decode()),
    ],
    "linear": [("Linear-Signature", mac(BODY))],
    "pagerduty": [("X-PagerDuty-Signature", f"v1={mac(BODY, 'old')},v1={mac(BODY)}")],
    "sentry": [("Sentry-Hook-Signature", mac(BODY))],
    "shopify": [("X-Shopify-Hmac-Sha256", base64.b64encode(bytes.fromhex(mac(BODY))).decode())],
    "slack": [
        ("X-Slack-Request-Timestamp", "1700000000"),
        ("X-Slack-Signature", f"v0={mac(b'v0:1700000000:' + BODY)}"),
    ],
    "stripe": [
        (
            "Stripe-Signature",
            f"t=1700000000,v0=00,v1={mac(b'1700000000.' + BODY, 'old')},v1={mac(b'1700000000.' + BODY)}",
        )
    ],
    "terraform": [("X-TFE-Notification-Signature", mac(BODY, algorithm="sha512"))],
    "vercel": [("x-vercel-signature", mac(BODY, algorithm="sha1"))],
    "zoom": [
        ("x-zm-request-timestamp", "1700000000"),
        ("x-zm-signature", f"v0={mac(b'v0:1700000000:' + BODY)}"),
    ],
}


@pytest.mark.parametrize("preset", sorted(SIGNED))
def test_only_what_is_signed_with_the_key_is_good(preset: Preset) -> None:
    headers, good = SIGNED[preset], verifier(preset=preset)
    assert good.is_signed(headers, BODY, NOW)
    assert good.is_signed([(name.upper(), value) for name, value in headers], BODY, NOW), "header case"
    assert verifier("new", "k", preset=preset).is_signed(headers, BODY, NOW), "both keys of a rotation"
    assert not verifier("other", preset=preset).is_signed(headers, BODY, NOW), "wrong key"
    assert not good.is_signed([], BODY, NOW), "unsigned"
    assert not good.is_signed(headers, BODY + b"\n", NOW), "changed body"
    assert not good.is_signed([(name, "") for name, _ in headers], BODY, NOW), "empty"
    assert not good.is_signed([(name, value + "\xe9é") for name, value in headers], BODY, NOW), "garbage"


@pytest.mark.parametrize("preset", ["stripe", "slack", "zoom", "buildkite"])
def test_a_signed_time_is_near_now_or_the_signature_is_none(preset: Preset) -> None:
    near = verifier(preset=preset, tolerance="5m")
    assert near.is_signed(SIGNED[preset], BODY, NOW + 300)
    assert near.is_signed(SIGNED[preset], BODY, NOW - 300)
    assert not near.is_signed(SIGNED[preset], BODY, NOW + 301), "old"
    assert not near.is_signed(SIGNED[preset], BODY, NOW - 301), "from the future"
    bare = [(name, value) for name, value in SIGNED[preset] if "imestamp" not in name]
    without = [(name, value.replace("t=17", "x=17").replace("timestamp=", "x=")) for name, value in bare]
    assert not near.is_signed(without, BODY, NOW), "no time"


def test_presets_are_all_tried() -> None:
    assert set(PRESETS) == {*SIGNED, "svix", "standard-webhooks"}


def test_grafana_signs_the_time_where_it_is_told_to_say_it() -> None:
    timed = verifier(preset="grafana", timestamp_header="X-Time", header="X-Mine")
    headers = [("x-time", "1700000000"), ("x-mine", mac(b"1700000000:" + BODY))]
    assert timed.is_signed(headers, BODY, NOW)
    assert not timed.is_signed(headers, BODY, NOW + 1000)
    assert not timed.is_signed([("x-mine", mac(BODY))], BODY, NOW)


def test_a_signature_is_spelt_out_for_any_other_sender() -> None:
    custom = verifier(
        "6b",
        header="X-Sign",
        prefix="s=",
        separator=";",
        signed="é|{id}|{timestamp}|{body}|end",
        algorithm="sha512",
        encoding="base64",
        key_encoding="hex",
        timestamp_prefix="ms=",
        id_header="X-Id",
    )
    signed = "é|".encode() + b"{timestamp}|1700000000123|" + BODY + b"|end"
    text = base64.b64encode(hmac.digest(b"k", signed, "sha512")).decode()
    headers = [("X-Id", "{timestamp}"), ("X-Sign", f"ms=1700000000123; s=AAAA; s={text}")]
    assert custom.is_signed(headers, BODY, NOW)
    assert not custom.is_signed(headers[1:], BODY, NOW), "no id"


def test_a_header_of_many_signatures_is_not_tried_for_ever() -> None:
    many = ",".join([f"v1={mac(BODY, 'x')}"] * MOST_SIGNATURES + [f"v1={mac(BODY)}"])
    assert not verifier(preset="pagerduty").is_signed([("X-PagerDuty-Signature", many)], BODY, NOW)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs a preset, or a header"),
        ({"preset": "github", "header": "X-Mine"}, "take out header, or the preset"),
        ({"header": "X", "signed": "{timestamp}"}, "write {body} once"),
        ({"header": "X", "signed": "{body}{body}"}, "write {body} once"),
        ({"header": "X", "signed": "{body}{url}"}, "write {body} once"),
        ({"header": "X", "signed": "{timestamp}.{body}"}, "exactly when one of timestamp_header"),
        ({"header": "X", "timestamp_header": "T"}, "exactly when one of timestamp_header"),
        ({"header": "X", "id_header": "I"}, "exactly when id_header"),
        (
            {"header": "X", "signed": "{timestamp}{body}", "timestamp_prefix": "t="},
            "timestamp_prefix needs a separator",
        ),
        ({"preset": "standard-webhooks", "secrets": ["whsec_%%%"]}, "secrets are base64 here"),
        ({"header": "X", "key_encoding": "hex", "secrets": ["zz"]}, "secrets are hex here"),
    ],
)
def test_what_cannot_be_verified_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Signature.model_validate({"secrets": ["k"]} | given)
    (error,) = refused.value.errors()
    assert said in error["msg"]
    assert "%%%" not in error["msg"]


def test_an_empty_key_is_none() -> None:
    rule = Signature.model_validate({"preset": "github", "secrets": ["${env:EMPTY}"]})
    with pytest.raises(ValueError, match="anybody could sign"):
        Verifier(rule, [""])
