from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatrelaybot.daemon import Daemon
from chatrelaybot.daemon_loop import Loop
from chatrelaybot.errors import ConfigurationError
from chatrelaybot.playground.limits import Limits
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, Gated
from tests.conftest import StartBot, StartProgram, settings_for

DEADLINE = 10.0


@pytest.fixture(name="workspace")
def _workspace() -> Iterator[Workspace]:
    """A workspace that sends again soon what was not acked."""
    with Workspace(limits=Limits.none(), ack_seconds=0.5, redelivery=(0.5,) * 60) as workspace:
        yield workspace


def test_the_program_opens_as_many_files_as_it_may(start_program: StartProgram) -> None:
    """Each answer has some, and who starts it may have set the limit for a shell."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    narrow = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (256, {most}))\n"
        "from chatrelaybot.cli import main\n"
        "sys.exit(main())"
    )

    process = start_program(words=(sys.executable, "-c", narrow))

    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (most, most)


def test_a_loop_steps_until_it_is_stopped() -> None:
    stepped = threading.Event()
    failures: list[Exception] = []
    loop = Loop("tick", stepped.set, failed=failures.append, every=0.01)
    loop.start()

    assert stepped.wait(DEADLINE)
    loop.stop()
    assert not loop.is_alive()
    assert failures == []
    assert loop.name == "chatrelaybot-tick"


def test_a_loop_that_dies_says_so_and_goes_on_with_what_comes_afterwards() -> None:
    failures: list[Exception] = []
    afterwards = threading.Event()

    def step() -> None:
        raise RuntimeError("broken")

    loop = Loop("broken", step, failed=failures.append, afterwards=afterwards.set)
    loop.start()

    assert afterwards.wait(DEADLINE)
    loop.stop()
    assert [str(failure) for failure in failures] == ["broken"]


def test_a_refused_token_is_a_matter_of_configuration(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> None:
    workspace.revoke_token(error="account_inactive")
    daemon = Daemon(settings_for(workspace, backend.url, tmp_path))

    with pytest.raises(ConfigurationError, match="SLACK_BOT_TOKEN"):
        daemon.start()
    daemon.stop()


def test_a_refused_app_token_ends_the_daemon(
    workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> None:
    workspace.revoke_token(which="app")
    daemon = Daemon(settings_for(workspace, backend.url, tmp_path))
    daemon.start()

    assert daemon.wait(DEADLINE)
    with pytest.raises(ConfigurationError, match="SLACK_APP_TOKEN"):
        daemon.stop()


def test_a_locked_database_delays_questions_and_loses_none(
    start_bot: StartBot, workspace: Workspace, backend: AnsweringBackend, tmp_path: Path
) -> None:
    start_bot()
    held = Gated("settled ", "later")
    backend.answer("held", held)
    channel = workspace.add_channel()
    running = workspace.say(channel, f"{workspace.mention} held")
    backend.wait_for_requests(1)
    other = sqlite3.connect(tmp_path / "inbox.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    late = workspace.add_channel("late")
    ts = workspace.say(late, f"{workspace.mention} late")
    held.let_all_go()
    workspace.wait_for(lambda: len(workspace.deliveries_of(late, ts)[0].sends) > 2)
    assert workspace.acked_count == 1
    other.execute("ROLLBACK")
    other.close()

    workspace.wait_for(
        lambda: [reply.shown for reply in workspace.replies(late, ts)] == ["You asked: late"]
    )
    workspace.wait_for(
        lambda: [reply.shown for reply in workspace.replies(channel, running)] == ["settled later"]
    )
    assert backend.queries.count("held") == 1


#: A signal that another thread than the main one is given, while that one waits for a lock.
STOPPER = """
import signal, threading
from chatrelaybot.daemon_signals import Signals

stopped = threading.Event()
signals = Signals(on_stop=stopped.set, on_reload=print, failed=print)
threading.Thread(
    target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
).start()
print("stopped" if stopped.wait(20) else "waits")
signals.close()
"""


def test_a_signal_ends_a_wait_whichever_thread_it_reaches() -> None:
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", STOPPER], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.split() == ["stopped"]
