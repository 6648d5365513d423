"""How this process is to run: flags over environment (`UPBEAT_*`, `*_FILE` for secrets) over defaults. Not the file's settings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROLES: Final = ("api", "evaluator", "exporter", "probe")
DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8000
ADMIN_TOKEN_LEAST: Final = 20


class SettingsError(Exception):
    """A setting that cannot be; the message says which, where it came from and what is allowed."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Everything `upbeat serve` can be told from outside its configuration file."""

    config: Path | None = None
    data: Path = field(default_factory=lambda: default_data(os.environ))
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    roles: frozenset[str] = frozenset(ROLES)
    regions: tuple[str, ...] | None = None  # None: all of them
    workers: int = 1
    browsers: int | None = None  # of all workers; None: what the machine has room for
    database_url: str | None = None  # None: an embedded server
    nats_url: str | None = None  # None: an embedded server
    nats_replicas: int = 1
    admin_token: str | None = None
    public_url: str | None = None
    log_format: str = "json"
    durable: bool = True
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


def default_data(environment: Mapping[str, str]) -> Path:
    """Where data goes when nobody says: `$XDG_DATA_HOME/upbeat`, as a rule `~/.local/share/upbeat`.

    Root's is `/var/lib/upbeat`: the embedded servers give up root's rights, and could not enter its home.
    """
    if base := environment.get("XDG_DATA_HOME"):
        return Path(base) / "upbeat"
    if os.geteuid() == 0 or "HOME" not in environment:
        return Path("/var/lib/upbeat")
    return Path(environment["HOME"]) / ".local/share/upbeat"


def secret(environment: Mapping[str, str], name: str) -> str | None:
    """The value of `name`, or the contents of the file that `name_FILE` names. Raises `SettingsError`."""
    if value := environment.get(name):
        return value
    path = environment.get(f"{name}_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as failure:
        raise SettingsError(f"{name}_FILE={path} cannot be read: {failure}") from None


def serve_settings(
    environment: Mapping[str, str],
    *,
    config: Path | None = None,
    data: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    roles: str | None = None,
    regions: str | None = None,
    workers: int | None = None,
) -> ServeSettings:
    """Flags (not None) over `environment` over defaults. Raises `SettingsError` naming the setting and what is allowed."""
    token = secret(environment, "UPBEAT_ADMIN_TOKEN")
    if token is not None and len(token) < ADMIN_TOKEN_LEAST:
        raise SettingsError(
            f"UPBEAT_ADMIN_TOKEN has {len(token)} characters; at least {ADMIN_TOKEN_LEAST} are needed"
        )
    log_format = environment.get("UPBEAT_LOG", "json")
    if log_format not in ("json", "text"):
        raise SettingsError(f"UPBEAT_LOG={log_format!r}; allowed are json and text")
    scripts = environment.get("UPBEAT_BROWSER_SCRIPTS", "")
    if scripts not in ("", "0", "1"):
        raise SettingsError(f"UPBEAT_BROWSER_SCRIPTS={scripts!r}; allowed are 0 and 1")
    config_text = environment.get("UPBEAT_CONFIG")
    data_text = environment.get("UPBEAT_DATA")
    return ServeSettings(
        config=config or (Path(config_text) if config_text else None),
        data=data or (Path(data_text) if data_text else default_data(environment)),
        host=host or environment.get("UPBEAT_HOST") or DEFAULT_HOST,
        port=port if port is not None else _number(environment, "UPBEAT_PORT", DEFAULT_PORT, 0, 65535),
        roles=_roles(roles or environment.get("UPBEAT_ROLES")),
        regions=_names(regions or environment.get("UPBEAT_REGIONS")),
        workers=workers if workers is not None else _number(environment, "UPBEAT_WORKERS", 1, 1, 64),
        browsers=_number(environment, "UPBEAT_BROWSERS", 0, 1, 100) or None,
        database_url=secret(environment, "UPBEAT_DATABASE_URL"),
        nats_url=secret(environment, "UPBEAT_NATS_URL"),
        nats_replicas=_number(environment, "UPBEAT_NATS_REPLICAS", 1, 1, 5),
        admin_token=token,
        public_url=environment.get("UPBEAT_PUBLIC_URL"),
        log_format=log_format,
        environment=environment,
    )


def _number(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name)
    if not text:
        return default
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingsError(f"{name}={text!r}; allowed is a whole number from {least} to {most}")
    return int(text)


def _names(text: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else None


def _roles(text: str | None) -> frozenset[str]:
    chosen = frozenset(_names(text) or ROLES)
    if unknown := chosen - set(ROLES):
        raise SettingsError(f"unknown role {', '.join(sorted(unknown))}; allowed are {', '.join(ROLES)}")
    return chosen
