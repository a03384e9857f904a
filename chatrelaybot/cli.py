"""The command line: `run`, `doctor`, `manifest`, `playground`, `backend`, `inbox`."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import chatrelaybot
from chatrelaybot import cli_doctor
from chatrelaybot.errors import ConfigurationError, TransientError

if TYPE_CHECKING:
    from chatrelaybot.inbox_desk import InboxDesk

_log = logging.getLogger(__name__)

#: Stopped as asked.
_OK = 0
#: Anything that went wrong, but for the configuration.
_FAILED = 1
#: The configuration is wrong (EX_CONFIG of sysexits.h); the service manager does not try again.
_WRONG_CONFIGURATION = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        sys.stdout.flush()
    except ConfigurationError as error:
        sys.stderr.write(f"chatrelaybot: {error}\n")
        return _WRONG_CONFIGURATION
    except KeyboardInterrupt:
        return _FAILED  # Whoever pressed Ctrl-C knows.
    except BrokenPipeError:
        # Who reads has seen enough, as `head` does; Python would say so once more at its end:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except Exception:  # noqa: BLE001 - the top of the main thread
        _log.critical("failed", exc_info=True)
        return _FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chatrelaybot", description=chatrelaybot.__doc__)
    parser.add_argument("--version", action="version", version=chatrelaybot.__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="the daemon")
    run.set_defaults(command=_run)
    cli_doctor.add_doctor(
        commands.add_parser("doctor", help="checks a set-up, and says how to mend it")
    )
    cli_doctor.add_manifest(
        commands.add_parser("manifest", help="prints the Slack app's manifest, to make the app of")
    )
    playground = commands.add_parser(
        "playground", help="the daemon in a local workspace, with a sample backend; no Slack"
    )
    playground.add_argument("--ask", metavar="QUESTION", help="ask one question, then exit")
    playground.set_defaults(command=_playground)
    backend = commands.add_parser("backend", help="the sample backend alone, on PORT")
    backend.set_defaults(command=_backend)
    _add_inbox(commands.add_parser("inbox", help="look into the inbox; try again, or delete"))
    return parser


def _add_inbox(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    show = verbs.add_parser("list", help="what waits, runs and was buried; no texts")
    show.add_argument("--all", action="store_true", help="also what was answered")
    show.add_argument(
        "--limit", type=_count, default=100, metavar="N", help="the N oldest (default: 100)"
    )
    show.add_argument("--json", action="store_true", help="one JSON object a line")
    show.set_defaults(command=_inbox_list)
    retry = verbs.add_parser("retry", help="try a buried or waiting question again, at once")
    retry.add_argument("id", metavar="ID", help="as shown by list, or the beginning of it")
    retry.set_defaults(command=_inbox_retry)
    purge = verbs.add_parser("purge", help="delete buried questions and their texts")
    purge.add_argument(
        "--older-than",
        type=_hours,
        default=0.0,
        metavar="HOURS",
        help="only what was buried so long ago",
    )
    purge.add_argument("--yes", action="store_true", help="do not ask")
    purge.set_defaults(command=_inbox_purge)


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) < 1_000_000_000):
        raise argparse.ArgumentTypeError(f"{text} is not a count")
    return int(text)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0.0 <= hours < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of hours")
    return hours


def _run(_options: argparse.Namespace) -> int:
    # Imported here, as in the other commands: each imports only what it needs.
    from chatrelaybot.daemon import Daemon
    from chatrelaybot.settings import load_settings
    from chatrelaybot.telemetry_logs import configure_logging

    settings = load_settings()
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    Daemon(settings, reread=load_settings).run()
    return _OK


def _playground(options: argparse.Namespace) -> int:
    try:
        from chatrelaybot.playground.command import play
    except ModuleNotFoundError as error:
        return _lacks_playground(error)
    return play(options.ask)


def _backend(_options: argparse.Namespace) -> int:
    from chatrelaybot.settings import load_settings
    from chatrelaybot.telemetry_logs import configure_logging

    try:
        from chatrelaybot.playground.sample import serve_forever
    except ModuleNotFoundError as error:
        return _lacks_playground(error)
    settings = load_settings(needs_slack=False)
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    serve_forever(port=settings.port)
    return _OK


def _inbox_list(options: argparse.Namespace) -> int:
    from chatrelaybot.cli_inbox import show

    def run(desk: InboxDesk) -> int:
        show(desk, limit=options.limit, has_answered=options.all, is_json=options.json)
        return _OK

    return _at_desk(run)


def _inbox_retry(options: argparse.Namespace) -> int:
    from chatrelaybot.cli_inbox import retry

    def run(desk: InboxDesk) -> int:
        retry(desk, options.id)
        return _OK

    return _at_desk(run)


def _inbox_purge(options: argparse.Namespace) -> int:
    from chatrelaybot.cli_inbox import purge

    def run(desk: InboxDesk) -> int:
        return _OK if purge(desk, hours=options.older_than, is_sure=options.yes) else _FAILED

    return _at_desk(run)


def _at_desk(run: Callable[[InboxDesk], int]) -> int:
    """Do something with the inbox; what is in its way is told in one line."""
    from chatrelaybot import inbox_desk
    from chatrelaybot.settings import load_settings
    from chatrelaybot.telemetry_logs import configure_logging

    settings = load_settings(needs_slack=False)
    # Warnings are the daemon's; here what failed is told anyway.
    configure_logging(log_format=settings.log_format, level="ERROR")
    try:
        with inbox_desk.opened(settings.database_url) as desk:
            return run(desk)
    except (TransientError, inbox_desk.NotRetried) as error:
        sys.stderr.write(f"chatrelaybot: {error}\n")
        return _FAILED


def _lacks_playground(error: ModuleNotFoundError) -> int:
    """Name what is missing where the daemon alone was installed."""
    library = (error.name or "").partition(".")[0]
    if library not in ("aiohttp", "rich"):
        raise error
    sys.stderr.write(
        f"chatrelaybot: {library} is not installed; install what the playground needs, too: "
        "pip install '.[playground]'\n"
    )
    return _FAILED
