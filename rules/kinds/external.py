"""The `external` beat: no schedule and no probe; other systems say what it is, by reports and triggers."""

from typing import Literal

from pydantic import Field

from rules.kinds.kind import BeatRule


class ExternalBeat(BeatRule):
    """What is known from elsewhere: ok until somebody reports otherwise."""

    waits_for = "reports about it"

    type: Literal["external"] = Field(description="The kind of beat.")

    @property
    def target(self) -> str:
        """What is awaited."""
        return "reports of others"


def reports(slug: str, url: str) -> tuple[tuple[str, str], ...]:
    """Lines to copy that report about the beat to the server at `url`, each with what it is for."""
    body = '{"verdict": "critical", "message": "what is wrong"}'
    curl = 'curl -fsS -H "Authorization: Bearer $UPBEAT_TOKEN" -H "Content-Type: application/json"'
    return (
        ("Something is wrong (--warning is milder)", f'upbeat report {slug} --critical "what is wrong"'),
        ("It is over", f"upbeat report {slug} --ok"),
        ("By HTTP", f"{curl} -d '{body}' {url}/api/v1/beats/{slug}/report"),
    )
