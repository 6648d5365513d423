"""One serving Upbeat per module, with three regions, targets that fail on cue and a receiver of webhooks."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from tests.rig.process import Upbeat, fresh_folder
from tests.rig.story import Target, World
from tests.rig.targets import Receiver

HEAD = """\
version: 1
page: {{slug: shop, name: Shop}}
regions: [eu, us, ap]
egress: {{allow: [127.0.0.1/32]}}
defaults:
  interval: 1s
  timeout: 800ms
  retries: 0
  channels: [ops]
  quorum: {{confirm: {{runs: 2, spacing: 200ms, wait: 3s}}}}
channels:
  - {{slug: ops, type: webhook, url: "{url}"}}
"""
AUTO = "incidents: {open: auto, update: auto, resolve: auto}"


def http(slug: str, port: int, *more: str) -> str:
    """A beat and the component it feeds, of the same name."""
    extra = "".join(f", {part}" for part in more)
    return f'{{slug: {slug}, type: http, url: "http://127.0.0.1:{port}/", components: [{slug}]{extra}}}'


def document(url: str, beats: Mapping[str, str]) -> str:
    """An upbeat.yaml with these beats."""
    components = "".join(f"  - {{slug: {slug}, name: {slug}}}\n" for slug in beats)
    lines = "".join(f"  - {beat}\n" for beat in beats.values())
    return f"{HEAD.format(url=url)}components:\n{components}beats:\n{lines}"


@contextlib.asynccontextmanager
async def serving(
    targets: Mapping[str, Target], beats: Callable[[Mapping[str, Target]], Mapping[str, str]]
) -> AsyncIterator[World]:
    """A world with these targets, started, and the beats made of their ports."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(fresh_folder())
        receiver = await stack.enter_async_context(Receiver())
        for target in targets.values():
            await stack.enter_async_context(target)
        config = folder / "upbeat.yaml"
        config.write_text(document(receiver.url, beats(targets)), "utf-8")
        running = await stack.enter_async_context(Upbeat(folder / "data", config))
        await running.start()
        yield World(running, targets, receiver, {})
