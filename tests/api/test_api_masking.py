"""What of a beat is shown to who may not edit it."""

import json
from typing import Any

from api.saving import MASK, masked
from rules.beat import BEAT
from rules.shape import spec_of


def test_nothing_that_a_request_carries_is_shown() -> None:
    secret = "canary7731"
    request: dict[str, Any] = {
        "url": "https://example.com/",
        "headers": {"X-Plain": "p", "Authorization": secret},
    }
    carried: tuple[dict[str, Any], ...] = (
        {"body": secret},
        {"json": {"a": secret}},
        {"form": {"a": secret}},
        {"form": {"a": secret}, "files": {"f": {"filename": "f", "content": secret}}},
        {"body_base64": "Y2FuYXJ5NzczMQ=="},
        {"jsonrpc": {"method": "m", "params": [secret]}},
    )
    steps = [{"name": f"s{n}", **request, **one} for n, one in enumerate(carried)]
    typed = [
        {"goto": "/"},
        {"fill": {"css": "#x", "value": secret}},
        {"upload": {"css": "#y", "files": [{"name": "y", "content": secret}]}},
    ]
    beats: tuple[dict[str, Any], ...] = (
        {"type": "http", "steps": steps, "auth": {"bearer": secret}, "proxy": f"http://u:{secret}@proxy:1"},
        {"type": "http", **request, **carried[0]},
        {"type": "tcp", "host": "h", "port": 1, "steps": [{"send": secret}]},
        {"type": "browser", "url": "https://h", "steps": typed, "teardown": typed, "lists": {"l": typed}},
        {"type": "browser", "values": {"v": secret}, "script": f"async def journey(page):\n    '{secret}'"},
    )
    for beat in beats:
        spec = spec_of(BEAT.validate_python({"slug": "b", **beat}))
        shown = json.dumps(masked(spec, "beat"))
        assert secret not in shown
        assert "Y2FuYXJ5" not in shown
        assert MASK in shown
