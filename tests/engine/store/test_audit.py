"""What the audit log keeps of an object."""

from engine.store.audit import redact


def test_no_secret_is_kept_wherever_it_was_written() -> None:
    spec = {
        "auth": {"bearer": "canary", "basic": {"username": "ann", "password": "canary"}},
        "headers": {"X-Api-Key": "canary", "Accept": "text/html"},
        "proxy": "http://ann:canary@proxy.example:3128",
        "steps": [{"auth": {"oauth2": {"client_secret": "canary", "scope": "https://id.example/t@1"}}}],
        "lists": {"login": [{"fill": {"label": "Password", "value": "canary"}}]},
        "teardown": [{"fill": {"label": "Name", "value": "Ann"}}],
        "otlp": {"headers": {"authorization": "${env:TOKEN}"}},
    }
    kept = redact(spec)
    assert "canary" not in repr(kept)
    assert kept["headers"]["Accept"] == "text/html"
    assert kept["proxy"] == "http://***@proxy.example:3128"
    assert kept["steps"][0]["auth"]["oauth2"]["scope"] == "https://id.example/t@1"
    assert kept["teardown"] == spec["teardown"]
    assert kept["otlp"] == spec["otlp"]
