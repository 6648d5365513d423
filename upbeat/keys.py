"""The keys of stored secrets: where a process takes them from, and the one an embedded installation makes itself."""

import base64
import contextlib
import os
from pathlib import Path
from typing import Final

from engine.store.secrets import Keyring, parse_keys
from upbeat.settings import ServeSettings, SettingsError, secret

KEY_FILE: Final = "secret.key"


def keyring(settings: ServeSettings, *, create: bool = False) -> Keyring:
    """UPBEAT_SECRET_KEY's, then that of the data folder of embedded servers: what it sealed stays readable.

    `create`: it is made there where there is no key at all. Raises `SettingsError`.
    """
    path = settings.data / KEY_FILE
    try:
        keys = parse_keys(secret(settings.environment, "UPBEAT_SECRET_KEY") or "")
    except ValueError as wrong:
        raise SettingsError(f"UPBEAT_SECRET_KEY: {wrong}") from None
    if settings.database_url:
        return Keyring(keys)
    try:
        if create and not keys and not path.exists():
            _make(path)
        with contextlib.suppress(FileNotFoundError):
            keys += parse_keys(path.read_text("utf-8"))
    except (OSError, ValueError) as wrong:
        raise SettingsError(f"{path} cannot be used: {wrong}") from None
    return Keyring(keys)


def _make(path: Path) -> None:
    """A new key at `path`, all of it or nothing, and never instead of one that is there."""
    draft = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(base64.b64encode(os.urandom(32)).decode() + "\n")
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
