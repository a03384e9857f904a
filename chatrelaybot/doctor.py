"""`chatrelaybot doctor`: looks at a set-up from the settings to Slack and the backend.

A check that fails never hides a later one that does not depend on it; one that does is skipped,
and says what it needs. Each step over the network has a time limit, but for the look-up of a host's
name, which has the limits of the machine's resolver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from chatrelaybot import (
    doctor_backend,
    doctor_collector,
    doctor_health,
    doctor_inbox,
    doctor_link,
    doctor_send,
    doctor_service,
    doctor_slack,
    inbox_desk,
)
from chatrelaybot.doctor_findings import Finding, Verdict, failed, ok, skipped, warning, wrong
from chatrelaybot.doctor_inbox import Looked
from chatrelaybot.doctor_link import Greeting, Offer
from chatrelaybot.install import Needs
from chatrelaybot.settings import Settings
from chatrelaybot.settings_survey import Survey
from chatrelaybot.slack_probe import Heard

SETTINGS = "settings"

_BOT = ("SLACK_BOT_TOKEN", "SLACK_API_URL")
_APP = ("SLACK_APP_TOKEN", "SLACK_API_URL")
_BACKEND = ("BACKEND_URL",)
_ASKING = (
    *_BACKEND,
    "BACKEND_DIALECT",
    "BACKEND_MODEL",
    "BACKEND_TOKEN",
    "BACKEND_HEADERS",
)
#: Who asks, where Slack did not say who the bot is.
_NOBODY = ("T0DOCTOR", "U0DOCTOR")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Order:
    """What the doctor shall do beyond looking."""

    question: str | None = None  #: to ask the backend; None: nothing is asked
    is_sending: bool = False  #: post, edit and delete a message in SLACK_TEST_CHANNEL


def examine(survey: Survey, order: Order, variables: Mapping[str, str]) -> Iterator[Finding]:
    """Check everything, and yield what is found as it comes; `variables` is the environment."""
    yield from _settings(survey)
    if survey.settings is None:
        yield skipped("all else", "needs settings that can be read")
        return
    yield from _service(survey.settings, variables.get("STATE_DIRECTORY", "").partition(":")[0])
    yield from _Examination(survey, survey.settings, order, variables).run()


def _settings(survey: Survey) -> Iterator[Finding]:
    for error in survey.wrong:
        yield wrong(SETTINGS, error)
    for name, meant in survey.misspelt.items():
        yield warning(SETTINGS, f"there is none of the name {name}", f"perhaps {meant} is meant")
    if not survey.wrong and not survey.misspelt:
        yield ok(SETTINGS, "all can be used")


def _service(settings: Settings, state_directory: str) -> Iterator[Finding]:
    if doctor_service.is_for_service(state_directory):
        yield from _safely(
            doctor_service.SERVICE,
            lambda: doctor_service.service(
                settings, directory=Path.cwd(), state_directory=Path(state_directory)
            ),
            lambda finding: [finding],
        )


class _Examination:
    """One pass over all that lies behind the settings."""

    def __init__(
        self, survey: Survey, settings: Settings, order: Order, variables: Mapping[str, str]
    ) -> None:
        self._survey = survey
        self._settings = settings
        self._order = order
        self._variables = variables
        self._needs = Needs.of(
            busy_reaction=settings.slack_busy_reaction, channels=settings.slack_channel
        )

    def run(self) -> Iterator[Finding]:
        """Yield the findings in the order in which a person would mend them."""
        bot, heard = _with_more(doctor_slack.BOT_TOKEN, self._introduce)
        yield bot
        yield _alone(doctor_slack.SCOPES, lambda: doctor_slack.scopes(heard, self._needs))
        health, runs_here = _with_more(doctor_health.HEALTH, self._health)
        database, looked = _with_more(doctor_inbox.DATABASE, self._database)
        yield _alone(doctor_inbox.EVENTS, lambda: self._events(heard, looked))
        token, offer = _with_more(doctor_link.APP_TOKEN, lambda: self._app_token(heard))
        yield token
        link, greeting = _with_more(doctor_link.LINK, lambda: _link(offer))
        yield link
        yield _alone(
            doctor_link.INSTANCES,
            lambda: doctor_link.instances(
                greeting,
                is_shared=doctor_inbox.is_shared(self._settings.database_url),
                alive_count=looked.instance_count if looked else None,
                runs_here=bool(runs_here),
            ),
        )
        yield database
        place = _alone(doctor_backend.BACKEND, self._backend)
        yield place
        yield _alone(doctor_backend.ANSWER, lambda: self._answer(place, heard))
        yield _alone(doctor_collector.COLLECTOR, self._collector)
        yield health
        yield _alone(doctor_slack.CLOCK, lambda: doctor_slack.clock(heard))
        yield _alone(doctor_send.SENDING, lambda: self._send(heard))

    def _introduce(self) -> tuple[Finding, Heard | None]:
        if lacking := self._lacking(doctor_slack.BOT_TOKEN, _BOT):
            return lacking, None
        return doctor_slack.introduce(
            self._settings.slack_bot_token.get_secret_value(),
            api_url=self._settings.slack_api_url,
            user_id=self._settings.slack_bot_user_id,
        )

    def _events(self, heard: Heard | None, looked: Looked | None) -> Finding:
        granted = heard.scopes if heard is not None and heard.refusal is None else None
        arrivals = looked.arrivals if looked else None
        return doctor_inbox.events(arrivals, granted=granted, needs=self._needs)

    def _app_token(self, heard: Heard | None) -> tuple[Finding, Offer | None]:
        if lacking := self._lacking(doctor_link.APP_TOKEN, _APP):
            return lacking, None
        if heard is None and self._survey.is_good(*_BOT):
            return skipped(doctor_link.APP_TOKEN, "needs a Slack that answers"), None
        return doctor_link.open_link(
            self._settings.slack_app_token.get_secret_value(),
            api_url=self._settings.slack_api_url,
        )

    def _database(self) -> tuple[Finding, Looked | None]:
        if lacking := self._lacking(doctor_inbox.DATABASE, ("DATABASE_URL",)):
            return lacking, None
        return doctor_inbox.look(self._settings.database_url)

    def _backend(self) -> Finding:
        if lacking := self._lacking(doctor_backend.BACKEND, _BACKEND):
            return lacking
        return doctor_backend.reachable(self._settings)

    def _answer(self, place: Finding, heard: Heard | None) -> Finding:
        if self._order.question is None:
            return doctor_backend.unasked()
        if place.verdict is Verdict.FAILED:
            return skipped(doctor_backend.ANSWER, "needs a backend that is there")
        if lacking := self._lacking(doctor_backend.ANSWER, _ASKING):
            return lacking
        data = heard.data if heard is not None and heard.refusal is None else {}
        return doctor_backend.answer(
            self._settings,
            self._order.question,
            team_id=data.get("team_id", _NOBODY[0]),
            user_id=data.get("user_id", _NOBODY[1]),
        )

    def _collector(self) -> Finding:
        if lacking := self._lacking(doctor_collector.COLLECTOR, ("OTEL_EXPORTER",)):
            return lacking
        if self._survey.otel is None:
            return skipped(doctor_collector.COLLECTOR, "needs OTEL_… variables that can be read")
        variables = {**self._survey.otel, **self._variables}
        return doctor_collector.collector(self._settings.otel_exporter, variables)

    def _health(self) -> tuple[Finding, bool | None]:
        if lacking := self._lacking(doctor_health.HEALTH, ("HTTP_HOST", "HTTP_PORT")):
            return lacking, None
        is_known = self._survey.is_good("DATABASE_URL")
        return doctor_health.health(
            self._settings.http_host,
            self._settings.http_port,
            file=inbox_desk.file_of(self._settings.database_url) if is_known else None,
        )

    def _send(self, heard: Heard | None) -> Finding:
        if not self._order.is_sending:
            return doctor_send.unsent()
        if lacking := self._lacking(doctor_send.SENDING, ("SLACK_TEST_CHANNEL",)):
            return lacking
        if not doctor_slack.is_introduced(heard):
            return skipped(doctor_send.SENDING, "needs a bot token that Slack takes")
        return doctor_send.send(
            self._settings.slack_bot_token.get_secret_value(),
            api_url=self._settings.slack_api_url,
            channel=self._settings.slack_test_channel,
        )

    def _lacking(self, check: str, names: tuple[str, ...]) -> Finding | None:
        """Skip a check whose settings are wrong; None: they are good."""
        lacking = [name for name in names if not self._survey.is_good(name)]
        return skipped(check, f"needs {', '.join(lacking)}") if lacking else None


def _link(offer: Offer | None) -> tuple[Finding, Greeting | None]:
    if offer is None:
        return skipped(doctor_link.LINK, "needs the address of a link, for the app token"), None
    return doctor_link.greet(offer)


def _alone(check: str, look: Callable[[], Finding]) -> Finding:
    return _safely(check, look, lambda finding: finding)


def _with_more(
    check: str, look: Callable[[], tuple[Finding, _T | None]]
) -> tuple[Finding, _T | None]:
    """Make a check that brings something for others."""
    return _safely(check, look, lambda finding: (finding, None))


def _safely(check: str, look: Callable[[], _T], instead: Callable[[Finding], _T]) -> _T:
    """Make a check; one that falls over is a finding, and the others go on."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - its words may quote anything
        fact = f"this check fell over ({type(error).__name__})"
        return instead(failed(check, fact, "it is a fault of the doctor: please report it"))
