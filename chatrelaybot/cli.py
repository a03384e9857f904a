"""The command line: `run`, `playground`, `backend`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import chatrelaybot
from chatrelaybot.errors import ConfigurationError

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
    except ConfigurationError as error:
        sys.stderr.write(f"chatrelaybot: {error}\n")
        return _WRONG_CONFIGURATION
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
    playground = commands.add_parser(
        "playground", help="the daemon in a local workspace, with a sample backend; no Slack"
    )
    playground.add_argument("--ask", metavar="QUESTION", help="ask one question, then exit")
    playground.set_defaults(command=_playground)
    backend = commands.add_parser("backend", help="the sample backend alone, on PORT")
    backend.set_defaults(command=_backend)
    return parser


def _run(_options: argparse.Namespace) -> int:
    # Imported here, as in the other commands: each imports only what it needs.
    from chatrelaybot.daemon import Daemon
    from chatrelaybot.settings import load_settings
    from chatrelaybot.telemetry import configure_logging

    settings = load_settings()
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    Daemon(settings).run()
    return _OK


def _playground(options: argparse.Namespace) -> int:
    try:
        from chatrelaybot.playground.command import play
    except ModuleNotFoundError as error:
        return _lacks_playground(error)
    return play(options.ask)


def _backend(_options: argparse.Namespace) -> int:
    from chatrelaybot.settings import load_settings
    from chatrelaybot.telemetry import configure_logging

    try:
        from chatrelaybot.playground.sample import serve_forever
    except ModuleNotFoundError as error:
        return _lacks_playground(error)
    settings = load_settings(needs_slack=False)
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    serve_forever(port=settings.port)
    return _OK


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
