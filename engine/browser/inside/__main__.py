"""The worker: `python -m engine.browser.inside CHROMIUM`. Orders on stdin, reports on stdout, until stdin ends."""

raise SystemExit("not yet")
