"""Faults of the Web API that a test orders beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
import requests

from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from tests.playground_app import App

Later = Callable[..., "Future[dict[str, Any]]"]


@pytest.fixture(name="app")
def _app(workspace: Workspace) -> Iterator[App]:
    with App(workspace) as app:
        yield app


@pytest.fixture(name="channel")
def _channel(workspace: Workspace) -> str:
    return workspace.add_channel()


@pytest.fixture(name="post_later")
def _post_later(workspace: Workspace, channel: str) -> Iterator[Later]:
    """Return a function that posts in another thread."""

    def post(text: str) -> dict[str, Any]:
        with App(workspace) as app:
            return app.call("chat.postMessage", channel=channel, text=text)

    with ThreadPoolExecutor(4) as pool:
        yield lambda text: pool.submit(post, text)
        workspace.faults.clear()


@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_http_status_comes_with_a_page_in_place_of_json(
    app: App, channel: str, status: int
) -> None:
    app.workspace.faults.add("chat.postMessage", status=status)

    response = app.send("chat.postMessage", channel=channel, text="x")

    assert (response.status_code, response.headers["Content-Type"]) == (
        status,
        "text/html; charset=utf-8",
    )
    assert app.workspace.history(channel) == []
    assert app.workspace.calls[-1].status == status


def test_an_error_may_come_before_or_after_the_effect(app: App, channel: str) -> None:
    app.workspace.faults.add("chat.postMessage", error="internal_error")
    app.workspace.faults.add("chat.postMessage", error="fatal_error", has_effect=True)

    answers = [
        app.call("chat.postMessage", channel=channel, text=text) for text in ("lost", "kept")
    ]

    assert [answer["error"] for answer in answers] == ["internal_error", "fatal_error"]
    assert [message.text for message in app.workspace.history(channel)] == ["kept"]


def test_the_connection_may_be_cut_before_or_after_the_effect(app: App, channel: str) -> None:
    app.workspace.faults.add("chat.postMessage", cut="before")
    app.workspace.faults.add("chat.postMessage", cut="after")

    for text in ("lost", "kept"):
        with pytest.raises(requests.ConnectionError):
            app.call("chat.postMessage", channel=channel, text=text)

    assert [message.text for message in app.workspace.history(channel)] == ["kept"]
    assert [call.status for call in app.workspace.calls] == [None, None]


def test_a_fault_happens_as_often_as_ordered(app: App) -> None:
    fault = app.workspace.faults.add("auth.test", error="internal_error", times=2)

    answers = [app.call("auth.test")["ok"] for _ in range(4)]

    assert answers == [False, False, True, True]
    assert fault.count == 2


def test_a_fault_without_times_goes_on_until_it_is_removed(app: App) -> None:
    fault = app.workspace.faults.add("auth.test", error="internal_error", times=None)

    before = [app.call("auth.test")["ok"] for _ in range(3)]
    app.workspace.faults.remove(fault)

    assert before == [False] * 3
    assert app.call("auth.test")["ok"]


def test_a_fault_may_choose_by_the_arguments(app: App, channel: str) -> None:
    app.workspace.faults.add(
        "chat.postMessage", error="internal_error", when=lambda args: args["text"] == "second"
    )

    answers = [
        app.call("chat.postMessage", channel=channel, text=text)["ok"]
        for text in ("first", "second", "third")
    ]

    assert answers == [True, False, True]


def test_a_forced_429_may_carry_the_other_spelling(app: App, channel: str) -> None:
    app.workspace.faults.add("chat.postMessage", retry_after=1, error="rate_limited")

    response = app.send("chat.postMessage", channel=channel, text="x")

    assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
    assert response.json()["error"] == "rate_limited"


def test_a_slow_call_takes_its_time_before_its_effect(app: App, channel: str) -> None:
    app.workspace.faults.add("chat.postMessage", delay=0.1)
    began = time.monotonic()

    ts = app.post(channel, text="x")

    assert app.workspace.message(channel, ts).versions[0].at - began >= 0.1


def test_a_slow_answer_comes_after_the_effect(app: App, channel: str) -> None:
    app.workspace.faults.add("chat.postMessage", answer_delay=0.1)

    ts = app.post(channel, text="x")

    posted_at = app.workspace.message(channel, ts).versions[0].at
    assert (app.workspace.calls[-1].done_at or 0.0) - posted_at >= 0.1


def test_a_call_is_held_before_its_effect_until_released(
    workspace: Workspace, channel: str, post_later: Later
) -> None:
    fault = workspace.faults.add("chat.postMessage", hold="before")
    call = post_later("x")
    workspace.wait_for(lambda: fault.count)
    held = workspace.history(channel)

    fault.release()

    assert call.result(5)["ok"]
    assert held == []
    assert [message.text for message in workspace.history(channel)] == ["x"]


def test_a_call_is_held_after_its_effect_until_released(
    workspace: Workspace, channel: str, post_later: Later
) -> None:
    fault = workspace.faults.add("chat.postMessage", hold="after", cut="after")
    call = post_later("x")

    workspace.wait_for(lambda: workspace.history(channel))
    is_answered = call.done()
    workspace.faults.clear()

    assert not is_answered
    assert isinstance(call.exception(5), requests.ConnectionError)
    assert fault.count == 1


def test_held_calls_do_not_hold_up_others(workspace: Workspace, post_later: Later) -> None:
    workspace.faults.add(
        "chat.postMessage", hold="before", when=lambda args: args["text"] == "held"
    )
    held = post_later("held")

    assert post_later("other").result(5)["ok"]
    assert not held.done()


def test_a_workspace_that_ends_lets_go_of_what_it_held() -> None:
    with Workspace() as workspace, ThreadPoolExecutor(1) as pool, App(workspace) as app:
        fault = workspace.faults.add("auth.test", hold="before")
        call = pool.submit(app.call, "auth.test")
        workspace.wait_for(lambda: fault.count)
        workspace.close()

        assert not wait([call], 5).not_done


def test_latency_is_spent_on_both_sides_of_the_effect() -> None:
    with Workspace(latency=0.1, limits=Limits.none()) as workspace, App(workspace) as app:
        channel = workspace.add_channel()
        ts = app.post(channel, text="x")

        [call] = workspace.calls
        posted_at = workspace.message(channel, ts).versions[0].at
    assert posted_at - call.at >= 0.05
    assert (call.done_at or 0.0) - posted_at >= 0.05


def test_an_outage_refuses_connections_until_it_ends(app: App) -> None:
    app.call("auth.test")

    app.workspace.go_down()
    with pytest.raises(requests.ConnectionError):
        app.call("auth.test")
    app.workspace.come_up()

    assert app.call("auth.test")["ok"]
