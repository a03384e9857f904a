"""The commands `doctor` and `manifest`, from their options to what they print."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chatrelaybot.doctor_findings import Finding

_OK = 0


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `doctor`."""
    parser.add_argument(
        "--ask",
        nargs="?",
        const="",
        metavar="QUESTION",
        help="also ask the backend a question, and time the answer; its text is not shown",
    )
    parser.add_argument(
        "--send",
        action="store_true",
        help="also post, edit, find and delete a message in SLACK_TEST_CHANNEL",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(command=_doctor)


def add_manifest(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `manifest`."""
    parser.add_argument("--name", help="the app's name (default: ChatRelayBot)")
    parser.add_argument("--json", action="store_true", help="JSON in place of YAML")
    parser.set_defaults(command=_manifest)


def _doctor(options: argparse.Namespace) -> int:
    # Imported here: it needs nearly all of the daemon, and `run` needs none of it.
    from chatrelaybot import doctor, doctor_backend, doctor_table
    from chatrelaybot.doctor_findings import exit_code
    from chatrelaybot.settings_survey import survey
    from chatrelaybot.telemetry_logs import configure_logging

    surveyed = survey()
    # What fails is in the table; nothing else shall stand between its lines.
    configure_logging(log_format="text", level="CRITICAL")
    question = None if options.ask is None else options.ask.strip() or doctor_backend.PING
    order = doctor.Order(question=question, is_sending=options.send)
    variables = {name: value for name, value in os.environ.items() if value}
    findings: list[Finding] = []
    for finding in doctor.examine(surveyed, order, variables):
        findings.append(finding)
        if not options.json:
            _write(_lines(finding))
    last = doctor_table.document if options.json else doctor_table.summary
    _write([last(findings)])
    return exit_code(findings)


def _lines(finding: Finding) -> Iterator[str]:
    from chatrelaybot import doctor_table

    has_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    columns = shutil.get_terminal_size((doctor_table.WIDTH, 0)).columns
    width = min(doctor_table.WIDTH, columns)
    return doctor_table.lines(finding, has_colour=has_colour, width=width)


def _write(lines: Iterable[str]) -> None:
    from chatrelaybot import doctor_table

    for line in lines:
        sys.stdout.write(f"{doctor_table.plain(line, sys.stdout.encoding)}\n")
    sys.stdout.flush()


def _manifest(options: argparse.Namespace) -> int:
    from chatrelaybot import install, install_yaml
    from chatrelaybot.settings import load_settings

    settings = load_settings(needs_slack=False)
    needs = install.Needs.of(
        busy_reaction=settings.slack_busy_reaction, channels=settings.slack_channel
    )
    manifest = install.manifest(needs, name=options.name or install.DEFAULT_NAME)
    if options.json:
        sys.stdout.write(f"{json.dumps(manifest, ensure_ascii=False, indent=2)}\n")
    else:
        sys.stdout.write(install_yaml.write(manifest, remarks=install.remarks(needs)))
    return _OK
