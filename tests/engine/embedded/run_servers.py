"""An Upbeat to kill: start the servers of one folder, say where they are, and stay until killed."""

import asyncio
import json
import sys
from pathlib import Path

from engine.embedded.folder import FolderError
from engine.embedded.supervisor import start


async def main(folder: Path) -> None:
    try:
        running = await start(folder, durable=False)
    except FolderError as refusal:
        print(json.dumps({"refused": str(refusal)}), flush=True)
        return
    facts = {fact.name: fact.pid for fact in running.facts()}
    print(
        json.dumps({"runs_as": running.facts()[0].runs_as, "pids": facts, "nats_url": running.nats_url}),
        flush=True,
    )
    sys.stdin.read()  # until whoever started us closes it
    await running.stop()
    print(json.dumps({"stopped": True}), flush=True)


asyncio.run(main(Path(sys.argv[1])))
