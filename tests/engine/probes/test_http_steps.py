"""Runs of several requests: order, captures, cookies, teardown, and what is told of each step."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from engine.probes.run import RunOutcome
from evaluators.model import Verdict

Play = Callable[..., RunOutcome]
HERE = "http://127.0.0.1:{port}"


class Shop:
    """A server with a login, a cart and a log of its requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def lines(self, path: str) -> list[str]:
        """The request to `path`, in lower case."""
        (request,) = (one for one in self.asked if one.split()[1] == path)
        return request.lower().split("\r\n")

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
        body = (await reader.readexactly(int(length))).decode() if length else ""
        self.asked.append(head + body)
        path, more, said = head.split()[1].partition("?")[0], "", {}
        status = "500 Oops" if path.startswith("/fail") else "200 OK"
        if path == "/login":
            more = "set-cookie: sid=s3ss10n; Path=/cart; HttpOnly\r\nx-next: /cart/17\r\n"
            said = {
                "token": "canary7731",
                "id": 17,
                "who": "a b/c&d",
                "far": f"http://127.0.0.2:{port_of(writer)}/far",
            }
        elif path == "/hang":
            await asyncio.sleep(3600)
        elif path == "/away":
            more, status = f"location: http://127.0.0.2:{port_of(writer)}/far\r\n", "302 Found"
        elif path == "/expire":
            more = "set-cookie: sid=; Max-Age=0; Path=/cart\r\n"
        elif path == "/echo":
            said = {"said": "canary7731"}
        answer = json.dumps(said)
        writer.write(f"HTTP/1.1 {status}\r\n{more}content-length: {len(answer)}\r\n\r\n{answer}".encode())


def port_of(writer: asyncio.StreamWriter) -> int:
    return int(writer.get_extra_info("sockname")[1])


def step(name: str, path: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": f"{HERE}{path or '/' + name}", **more}


LOGIN = step("login", method="POST", json={"user": "u"}, capture={"token": {"json": "$.token"}})


def kind(outcome: RunOutcome) -> str | None:
    return outcome.failure.type if outcome.failure else None


def statuses(outcome: RunOutcome) -> list[tuple[str, int | None]]:
    return [(one["name"], one["status"]) for one in (outcome.evidence or {})["steps"]]


def test_steps_run_in_order_and_what_one_captures_the_next_ones_send(play: Play) -> None:
    shop = Shop()
    captures = {"token": {"json": "$.token"}, "next": {"header": "x-next"}, "id": {"json": "$.id"}}
    captures |= {
        "who": {"json": "$.who"},
        "sid": {"cookie": "sid"},
        "far": {"matches": '"far": "(http[^"]+)"'},
    }
    outcome = play(
        shop,
        steps=[
            {**LOGIN, "capture": captures},
            {
                "name": "cart",
                "url": "${capture:next}",
                "headers": {"Authorization": "Bearer ${capture:token}"},
            },
            step(
                "find",
                "/find/${capture:who}?id=${capture:id}",
                method="POST",
                json={"sid": ["<${capture:sid}>"]},
            ),
            step("form", method="POST", form={"who": "${capture:who}"}),
        ],
    )
    assert outcome.verdict is Verdict.OK, outcome
    assert [one.split()[1] for one in shop.asked] == [
        "/login",
        "/cart/17",
        "/find/a%20b%2Fc%26d?id=17",
        "/form",
    ]
    assert {"authorization: bearer canary7731", "cookie: sid=s3ss10n"} <= set(shop.lines("/cart/17"))
    assert shop.asked[2].endswith('{"sid":["<s3ss10n>"]}')
    assert "cookie" not in shop.asked[2]
    assert shop.asked[3].endswith("who=a+b%2Fc%26d")


def test_a_good_run_shows_each_step_with_its_timings(play: Play) -> None:
    outcome = play(Shop(), steps=[step("a"), step("b")])
    assert statuses(outcome) == [("a", 200), ("b", 200)]
    shown = (outcome.evidence or {})["steps"]
    for phase in ("dns", "connect", "ttfb", "transfer"):
        total = getattr(outcome.timings, phase)
        assert sum(one["timings"][phase] for one in shown) == pytest.approx(total)
    assert sum(one["timings"]["total"] for one in shown) <= (outcome.timings.total or 0)


def test_a_failed_step_ends_the_run_and_always_steps_still_run(play: Play) -> None:
    shop = Shop()
    asserts = [{"of": "status", "eq": 200}]
    outcome = play(
        shop,
        steps=[
            LOGIN,
            step("pay", "/fail", assertions=asserts),
            step("never", assertions=asserts),
            step("out", "/out?t=${capture:token}", always=True, assertions=asserts),
        ],
    )
    assert (kind(outcome), outcome.verdict) == ("assertion.status", Verdict.CRITICAL)
    assert outcome.failure is not None
    assert outcome.failure.message.startswith("step pay: status is 500")
    assert statuses(outcome) == [("login", 200), ("pay", 500), ("never", None), ("out", 200)]
    assert [(one.step, one.ok, one.message) for one in outcome.outcomes if one.step in ("never", "out")] == [
        ("never", False, "not reached"),
        ("out", True, ""),
    ]
    assert (outcome.evidence or {})["status"] == 500  # of the step that failed, not of the last


def test_a_failed_teardown_is_a_failure(play: Play) -> None:
    outcome = play(Shop(), steps=[step("a"), step("out", "/fail", always=True)])
    assert (kind(outcome), outcome.failure and outcome.failure.message.split(":")[0]) == (
        "status",
        "step out",
    )


def test_a_hanging_step_leaves_the_teardown_its_time(play: Play) -> None:
    shop = Shop()
    steps = [step("hang"), step("stuck", "/hang", always=True), step("out", always=True)]
    outcome = play(shop, steps=steps, timeout_s=1.0)
    assert (kind(outcome), outcome.failure and outcome.failure.message.split(":")[0]) == (
        "http.timeout",
        "step hang",
    )
    assert statuses(outcome)[-1] == ("out", 200)


def test_a_step_that_takes_all_the_time_is_named(play: Play) -> None:
    outcome = play(Shop(), steps=[step("a"), step("hang")], timeout_s=2.0)
    assert (kind(outcome), outcome.failure and outcome.failure.message.split(":")[0]) == (
        "http.timeout",
        "step hang",
    )
    assert statuses(outcome) == [("a", 200), ("hang", None)]


def test_a_warning_of_a_step_is_one_of_the_run(play: Play) -> None:
    slow = [{"of": "header", "name": "x-gone", "exists": True, "severity": "warning"}]
    outcome = play(Shop(), steps=[step("a", assertions=slow), step("b")])
    assert (outcome.verdict, statuses(outcome)) == (Verdict.WARNING, [("a", 200), ("b", 200)])
    assert outcome.failure is not None
    assert outcome.failure.message.startswith("step a: ")


def test_the_time_of_a_step_may_be_asserted(play: Play) -> None:
    assert (
        play(Shop(), steps=[step("a")], assertions=[{"of": "step", "name": "a", "lt": "5s"}]).verdict == "ok"
    )
    late = [{"of": "step", "name": "a", "gt": "5s"}, {"of": "timing.total", "lt": "9s"}]
    assert kind(play(Shop(), steps=[step("a")], assertions=late)) == "assertion.step"


@pytest.mark.parametrize(
    ("capture", "expected"),
    [({"json": "$.gone"}, "capture.missing"), ({"cookie": "gone"}, "capture.missing")],
)
def test_a_capture_that_finds_nothing_fails_its_step(
    play: Play, capture: dict[str, str], expected: str
) -> None:
    shop = Shop()
    outcome = play(shop, steps=[{**LOGIN, "capture": {"x": capture}}, step("b", "/${capture:x}")])
    assert (kind(outcome), len(shop.asked)) == (expected, 1)
    assert outcome.failure is not None
    assert outcome.failure.message == "step login: capture x found nothing"


def test_a_teardown_whose_capture_is_missing_is_not_sent(play: Play) -> None:
    shop = Shop()
    steps = [
        step("login", "/fail", capture={"t": {"json": "$.t"}}),
        step("out", "/out/${capture:t}", always=True),
    ]
    assert statuses(play(shop, steps=steps)) == [("login", 500), ("out", None)]
    assert len(shop.asked) == 1


def test_what_is_captured_under_a_secret_name_is_hidden_though_the_target_repeats_it(play: Play) -> None:
    asserts = [{"of": "json", "path": "$.said", "eq": "x"}]
    outcome = play(Shop(), steps=[LOGIN, step("echo", "/echo?t=${capture:token}", assertions=asserts)])
    assert kind(outcome) == "assertion.json"
    assert "canary" not in repr(outcome)


def test_a_captured_url_of_another_origin_gets_no_secrets(play: Play) -> None:
    shop = Shop()
    capture = {"far": {"json": "$.far"}, "token": {"json": "$.token"}}
    far = {"name": "far", "url": "${capture:far}", "headers": {"X-T": "${capture:token}", "X-Plain": "p"}}
    outcome = play(shop, auth={"bearer": "beareroftidings"}, steps=[{**LOGIN, "capture": capture}, far])
    assert outcome.verdict is Verdict.OK
    assert "authorization: bearer beareroftidings" in shop.lines("/login")
    lines = shop.lines("/far")
    assert "x-plain: p" in lines
    assert not [line for line in lines if line.startswith(("authorization", "x-t:", "cookie"))]


def test_another_host_that_is_written_down_gets_what_is_written_for_it(play: Play) -> None:
    shop = Shop()
    login = LOGIN | {"capture": {**LOGIN["capture"], "id": {"json": "$.id"}}}
    cart = {"name": "cart", "url": "http://127.0.0.2:{port}/cart/${capture:id}"}
    outcome = play(shop, steps=[login, cart | {"headers": {"Authorization": "Bearer ${capture:token}"}}])
    assert outcome.verdict is Verdict.OK, outcome
    assert "authorization: bearer canary7731" in shop.lines("/cart/17")


def test_captured_secrets_stay_behind_when_a_redirect_leaves_the_origin(play: Play) -> None:
    shop = Shop()
    play(shop, steps=[LOGIN, step("away", headers={"X-T": "${capture:token}"})])
    assert "x-t: canary7731" in shop.lines("/away")
    assert "canary7731" not in "".join(shop.lines("/far"))
    outcome = play(Shop(), steps=[LOGIN, {**step("a"), "url": "http://127.0.0.2:{port}/", "method": "POST"}])
    assert outcome.verdict is Verdict.OK


def test_a_captured_line_break_is_not_sent(play: Play) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"t": "a\\r\\nx-evil: yes"}')

    steps = [step("a", capture={"t": {"json": "$.t"}}), step("b", headers={"X-T": "${capture:t}"})]
    assert kind(play(serve, steps=steps)) == "capture.refused"


def test_a_cookie_that_has_expired_is_not_sent(play: Play) -> None:
    shop = Shop()
    play(shop, steps=[LOGIN, step("cart"), step("expire"), step("later", "/cart/2")])
    assert "cookie: sid=s3ss10n" in shop.lines("/cart")
    assert not [line for line in shop.lines("/cart/2") if line.startswith("cookie")]


def test_all_steps_share_one_trace(play: Play) -> None:
    shop = Shop()
    outcome = play(shop, steps=[step("a"), step("b")])
    traces = {line for one in shop.asked for line in one.split("\r\n") if line.startswith("traceparent")}
    assert len(traces) == 1
    assert outcome.trace_id
    assert outcome.trace_id in traces.pop()


def test_captures_that_are_published_are_kept_of_a_failed_run_on_one_line_and_no_others(play: Play) -> None:
    captures = {"who": {"json": "$.who"}, "id": {"json": "$.id"}, "token": {"json": "$.token"}}
    steps = [{**LOGIN, "capture": captures}, step("form"), step("fail", "/fail")]
    outcome = play(Shop(), steps=steps, publish=["who"])
    assert outcome.verdict is Verdict.CRITICAL
    assert (outcome.evidence or {})["published"] == {"who": "a b/c&d"}
    fine = play(Shop(), steps=steps[:2], publish=["who"])
    assert "published" not in (fine.evidence or {})
