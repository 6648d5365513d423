"""Files kept of runs: each content once, by its SHA-256, under a cap. Who may read them is the caller's."""

from collections.abc import Sequence
from uuid import UUID

from engine.store.database import Connection, Row
from evaluators.observation import Artifact


async def keep(
    connection: Connection, run_id: UUID, beat_id: UUID, scheduled_at: float, artifacts: Sequence[Artifact]
) -> None:
    """Store them, once however often it is called."""
    raise NotImplementedError


async def of_run(connection: Connection, run_id: UUID) -> list[Row]:
    """Its files: `name`, `type`, `size_bytes`, `sha256` (hex)."""
    raise NotImplementedError


async def read(connection: Connection, run_id: UUID, name: str) -> Row | None:
    """One of them: `type`, `sha256`, `data`."""
    raise NotImplementedError
