"""What docs/reference says of exporters is what they do."""

import json
import re
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from ruamel.yaml import YAML
from standardwebhooks import WebhookVerificationError

from evaluators.model import Failure, Notice, Stage, Verdict
from exporters.channels.webhook import payload, signed
from exporters.measurement import BOUNDS_S, Named, Standing, Totals
from exporters.otlp_encoding import METRICS, Encoder, Names
from exporters.otlp_spans import encoded_run
from exporters.prometheus import families
from rules.channel import CHANNEL
from rules.channels.webhook import signing_key
from tests.exporters.otlp_rig import result

DOCS = Path(__file__).parents[2] / "docs" / "reference"


def _block(page: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def test_the_example_payload_is_what_is_sent(notice: Notice) -> None:
    assert json.loads(_block("webhook.md", "json")) == payload(notice)


def test_the_example_settings_are_valid() -> None:
    (channel,) = YAML(typ="safe").load(_block("webhook.md", "yaml"))["channels"]
    assert CHANNEL.validate_python(channel).type == "webhook"


def test_every_field_of_a_notice_is_described() -> None:
    text = (DOCS / "webhook.md").read_text(encoding="utf-8")
    assert [name for name in Notice.__struct_fields__ if f"`data.{name}`" not in text] == []


def test_the_verification_snippet_accepts_ours_and_refuses_others(notice: Notice) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = json.dumps(payload(notice)).encode()
    headers = signed(signing_key(secret), notice.id, int(time.time()), body)
    scope: dict[str, Any] = {}
    exec(_block("webhook.md", "python"), scope)

    assert scope["receive"](secret, body, headers) == payload(notice)
    with pytest.raises(WebhookVerificationError):
        scope["receive"](secret, body.replace(b"down", b"fine"), headers)


def test_every_metric_attribute_and_bound_is_described() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    totals = Totals(
        lambda one: Named(one, "page", "group") if one == "g" else Named(one, "page", "http", "http://x")
    )
    totals.keeps_newest = True
    runs = [
        result("b", verdict=Verdict.CRITICAL, failure=Failure("x", ""), evidence={"status": 500}),
        result("b", certificate_days=9.0),
    ]
    totals.observe(runs)
    totals.stand("b", Standing(Stage.OK))
    totals.stand("g", Standing(Stage.OK))
    about = {"service.name": "", "service.instance.id": "", "service.version": ""}
    spans = encoded_run(runs[0], Named("b", "page", "http", "http://x", "GET"))
    texts = [str(ScopeSpans.FromString(spans))]
    for names in get_args(Names):
        (request,) = Encoder(about, names=names).requests(totals.beats(), 1)
        texts.append(str(ExportMetricsServiceRequest.FromString(request.encode())))
    said = set(re.findall(r'\b(?:key|name): "([a-z_.]+\.[a-z_.]+)"', "".join(texts)))

    assert len(said) == 39
    assert [name for name in sorted(said) if f"`{name}`" not in text] == []
    assert [name for name in METRICS if f"`{name}`" not in text] == []
    assert [family.name for family in families(totals, phases=True) if f"`{family.name}`" not in text] == []
    assert ", ".join(f"{bound_s:g}" for bound_s in BOUNDS_S) in text
