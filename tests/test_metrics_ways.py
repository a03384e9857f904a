"""The two ways that metrics go out, /metrics and OTLP, and that they show the same."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping

import pytest

from chatrelaybot.daemon import Daemon
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.telemetry_metrics import INSTRUMENTS, Words
from tests.conftest import StartBot
from tests.otlp import Collector, Point
from tests.scraping import DEADLINE, Scrape, scrape, wait_for
from tests.scripted_backend import Exchange, ScriptedBackend, head
from tests.talking import PLACEHOLDER, ask, wait_until_shown
from tests.test_metrics import TRIES
from tests.test_traces import complete

#: They change with the time, whatever happens.
_FLEETING = ("chatrelaybot_slack_budget_left", "chatrelaybot_queue_oldest_seconds")
_UNITS = {"s": "_seconds"}


@pytest.fixture(name="bot")
def _bot(
    start_bot: StartBot,
    collector: Collector,  # noqa: ARG001 - must be there first
    workspace: Workspace,
) -> Iterator[Daemon]:
    """A bot to which everything has happened that is counted."""

    def is_busy(exchange: Exchange) -> None:
        exchange.send(head("Content-Length: 0", status="503 Service Unavailable"))

    def is_patient(exchange: Exchange) -> None:
        assert shown.wait(DEADLINE)
        complete(exchange)

    shown = threading.Event()
    with ScriptedBackend(is_busy, is_patient) as model:
        bot = start_bot(
            otel_exporter="otlp",
            http_port=0,
            backend_url=model.url,
            backend_dialect="openai",
            backend_model="tiny-1",
        )
        workspace.faults.add("chat.update", retry_after=1)
        workspace.send_event({"type": "message", "subtype": "channel_join"})
        for tries in (2, 3):  # The first one fails.
            shown.clear()
            wait_until_shown(workspace, ask(workspace, "hello"), PLACEHOLDER)
            shown.set()  # What comes now is an edit.
            wait_for(bot, lambda seen: seen.value(TRIES) == tries)  # noqa: B023
        workspace.cut_link("fin")
        wait_for(bot, lambda seen: seen.value("chatrelaybot_link_reconnects_total") == 1)
        wait_for(bot, lambda seen: seen.value("chatrelaybot_link_up") == 1)
        wait_for(bot, lambda seen: ("chatrelaybot_questions_waiting", frozenset()) in seen.samples)
        yield bot


def translated(points: list[Point]) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return points by the names that Prometheus's rules give them.

    https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
    """
    found = {}
    for point in points:
        name = point.name.replace(".", "_") + _UNITS.get(point.unit, "")
        labels = frozenset(
            (key.replace(".", "_"), str(value)) for key, value in point.attributes.items()
        )
        if point.kind == "histogram":
            found[f"{name}_sum", labels] = point.value
            found[f"{name}_count", labels] = float(point.count)
        else:
            found[name + ("_total" if point.kind == "sum" else ""), labels] = point.value
    return found


def lasting(seen: Scrape) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what OTLP shows as well, and with the same value at another moment."""
    return {
        (name, labels): value
        for (name, labels), value in seen.samples.items()
        if not name.startswith(("process_", "target_info", *_FLEETING))
        and not name.endswith("_bucket")
    }


def test_both_show_every_instrument_with_the_same_name_labels_and_value(
    bot: Daemon, collector: Collector
) -> None:
    collector.wait_for(
        lambda: {each.name for each in INSTRUMENTS} == {point.name for point in collector.points}
    )

    def is_same() -> bool:
        other = {
            key: pytest.approx(value)
            for key, value in translated(collector.points).items()
            if not key[0].startswith(_FLEETING)
        }
        return lasting(scrape(bot)) == other

    # Every few seconds something is written; between two such moments all must be the same.
    collector.wait_for(is_same)
    names = {name for name, _ in translated(collector.points)}
    seen = scrape(bot)
    assert set(_FLEETING) <= names <= {name for name, _ in seen.samples}
    ((_, labels),) = [key for key in seen.samples if key[0] == "target_info"]
    resource = collector.points[0].resource
    for name in ("service.name", "service.version", "service.instance.id"):
        assert dict(labels)[name.replace(".", "_")] == resource[name]


def test_prometheus_has_no_complaints(bot: Daemon) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with prometheus")

    checked = subprocess.run(  # noqa: S603 - a program of the machine's, our own text
        [promtool, "check", "metrics"],
        input=scrape(bot).text,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_stop_leaves_no_alarm_behind(start_bot: StartBot, collector: Collector) -> None:
    """The last values of a series stay for minutes, and a bot that is being stopped has no link."""
    bot = start_bot(otel_exporter="otlp", http_port=0)
    wait_for(bot, lambda seen: seen.value("chatrelaybot_link_up") == 1)

    bot.stop()

    names = {point.name for point in collector.points}
    assert "chatrelaybot.questions" in names
    assert not names & {"chatrelaybot.link.up", "chatrelaybot.database.up"}


def test_words_from_outside_become_a_few_labels() -> None:
    words = Words(most=2)

    assert [words.of(word) for word in ("reset", "req-1", "req-2", "reset", "x" * 61)] == [
        "reset",
        "req-1",
        "other",
        "reset",
        "other",
    ]
