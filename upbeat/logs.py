"""Logs: one JSON object a line with OpenTelemetry's field names, or text for people."""

import json
import logging
import sys
from datetime import UTC, datetime

_SEVERITY = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}


class JsonFormatter(logging.Formatter):
    """A record by the OpenTelemetry log data model."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity_text": record.levelname,
            "severity_number": _SEVERITY.get(record.levelname, 9),
            "scope": record.name,
            "body": record.getMessage(),
        }
        if record.exc_info:
            line["exception.stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(log_format: str, level: int = logging.INFO) -> None:
    """Send all logs of this process to standard error as `json` or `text`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if log_format == "json"
        else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # engine.bus says what matters, once
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
