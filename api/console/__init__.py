"""The console: server-rendered pages for operators over the same store and the same checks as REST."""

from api.console import (
    beats,
    building,
    channels,
    declared,
    episodes,
    files,
    groups,
    inboxes,
    incidents,
    maintenance,
    new_beat,
    overview,
    page,
    pages,
    people,
    previewing,
    publishers,
    replay,
    review,
    runs,
    secrets,
    session,
    slack,
    specs,
    subscribers,
    triggers,
    wording,
)
from api.console.page import html_problem

__all__ = ["ROUTERS", "html_problem"]

# `specs` last: its paths begin with any kind.
ROUTERS = tuple(
    module.router
    for module in (
        files,
        page,
        session,
        overview,
        new_beat,
        beats,
        groups,
        review,
        runs,
        incidents,
        episodes,
        maintenance,
        channels,
        publishers,
        subscribers,
        declared,
        pages,
        people,
        replay,
        secrets,
        inboxes,
        building,
        triggers,
        previewing,
        slack,
        wording,
        specs,
    )
)
