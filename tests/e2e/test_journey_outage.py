"""A journey that breaks while every plain check is green: a draft with its picture, which operators may fetch and nobody else."""

import os
from typing import Any

import aiohttp
import pytest

from tests.rig.process import TOKEN, fresh_folder, until, upbeat
from upbeat.demo.targets import HOST, Targets

pytestmark = pytest.mark.browser
CONFIG = """
version: 1
page: {{slug: shop, name: Shop}}
regions: [eu]
components: [{{slug: checkout, name: Checkout}}]
egress: {{allow: [127.0.0.1/32]}}
beats:
  - {{slug: health, type: http, url: "http://{host}:{port}/checkout/health", interval: 1s, timeout: 1s}}
  - slug: purchase
    type: browser
    url: http://{host}:{port}/
    interval: 10s
    timeout: 10s
    retries: 0
    quorum: {{consecutive: {{open: 1}}, confirm: off}}
    components: [checkout]
    steps:
      - goto: /checkout
      - fill: {{label: E-mail, value: ada@shop.example}}
      - click: {{role: button, name: Pay}}
      - {{expect: {{at: {{test_id: order}}}}, timeout: 1s}}
"""


async def test_a_broken_journey_is_drafted_with_a_picture_for_operators_only() -> None:
    shop = Targets(lambda _: None)
    await shop.start()
    await shop.become(slow=False, down=False, mute=True)
    config = CONFIG.format(host=HOST, port=shop.http_port)
    environment = {"UPBEAT_CHROMIUM": os.environ["CHROMIUM"]}
    try:
        with fresh_folder() as folder:
            async with upbeat(folder, config, environment=environment) as running:

                async def stage(wanted: str) -> bool:
                    return bool((await running.get("/beats/purchase"))["stage"] == wanted)

                await until(lambda: stage("critical"), "the journey has failed", 90)
                assert (await running.get("/beats/health"))["stage"] == "ok"

                async def drafts() -> list[dict[str, Any]]:
                    return await running.items("/actions?status=pending")

                async def is_drafted() -> bool:
                    return [one["step"] for one in await drafts()] == ["open"]

                await until(is_drafted, "a draft waits", 30)
                runs = await running.items("/beats/purchase/results?limit=20")
                failed = next(run for run in runs if run["verdict"] == "critical")
                base = f"/beats/purchase/results/{failed['run']}/artifacts"

                async def is_kept() -> bool:
                    return "failure.jpg" in {one["name"] for one in await running.items(base)}

                await until(is_kept, "the picture is kept", 30)
                url = f"http://127.0.0.1:{running.port}/api/v1{base}/failure.jpg"
                async with aiohttp.ClientSession() as session:
                    async with session.get(url) as answer:
                        assert answer.status == 401
                    async with session.get(url, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
                        assert answer.status == 200
                        assert (await answer.read())[:3] == b"\xff\xd8\xff"
    finally:
        await shop.stop()
