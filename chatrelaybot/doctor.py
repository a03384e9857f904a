"""`chatrelaybot doctor`: looks at a set-up from the settings to Slack and the backend.

A check that fails never hides a later one that does not depend on it; one that does is skipped,
and says what it needs. Each step over the network has a time limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chatrelaybot import (
    doctor_backend,
    doctor_collector,
    doctor_health,
    doctor_inbox,
    doctor_link,
    doctor_send,
    doctor_slack,
)
from chatrelaybot.doctor_findings import Finding, Verdict, ok, skipped, warning, wrong
from chatrelaybot.inbox_desk import Arrivals
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
    yield from _Examination(survey, survey.settings, order, variables).run()


def _settings(survey: Survey) -> Iterator[Finding]:
    for error in survey.wrong:
        yield wrong(SETTINGS, error)
    for name, meant in survey.misspelt.items():
        yield warning(SETTINGS, f"there is none of the name {name}", f"perhaps {meant} is meant")
    if not survey.wrong and not survey.misspelt:
        yield ok(SETTINGS, "all can be used")


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
        bot, heard = self._introduce()
        yield bot
        yield doctor_slack.scopes(heard, self._needs)
        health, runs_here = self._health()
        database, arrivals = self._database()
        granted = heard.scopes if heard is not None and heard.refusal is None else None
        yield doctor_inbox.events(arrivals, granted=granted, needs=self._needs)
        yield from self._link(is_slack_there=heard is not None, runs_here=runs_here)
        yield database
        yield from self._backend(heard)
        yield self._collector()
        yield health
        yield doctor_slack.clock(heard)
        yield self._send(heard)

    def _introduce(self) -> tuple[Finding, Heard | None]:
        if lacking := self._lacking(doctor_slack.BOT_TOKEN, _BOT):
            return lacking, None
        return doctor_slack.introduce(
            self._settings.slack_bot_token.get_secret_value(),
            api_url=self._settings.slack_api_url,
            user_id=self._settings.slack_bot_user_id,
        )

    def _link(self, *, is_slack_there: bool, runs_here: bool) -> Iterator[Finding]:
        offer, greeting = None, None
        if lacking := self._lacking(doctor_link.APP_TOKEN, _APP):
            yield lacking
        elif not is_slack_there and self._survey.is_good(*_BOT):
            yield skipped(doctor_link.APP_TOKEN, "needs a Slack that answers")
        else:
            finding, offer = doctor_link.open_link(
                self._settings.slack_app_token.get_secret_value(),
                api_url=self._settings.slack_api_url,
            )
            yield finding
        if offer is None:
            yield skipped(doctor_link.LINK, "needs the address of a link, for the app token")
        else:
            finding, greeting = doctor_link.greet(offer)
            yield finding
        is_shared = doctor_inbox.is_shared(self._settings.database_url)
        yield doctor_link.instances(greeting, is_shared=is_shared, runs_here=runs_here)

    def _database(self) -> tuple[Finding, Arrivals | None]:
        if lacking := self._lacking(doctor_inbox.DATABASE, ("DATABASE_URL",)):
            return lacking, None
        return doctor_inbox.look(self._settings.database_url)

    def _backend(self, heard: Heard | None) -> Iterator[Finding]:
        if lacking := self._lacking(doctor_backend.BACKEND, _BACKEND):
            place = lacking
        else:
            place = doctor_backend.reachable(self._settings)
        yield place
        if self._order.question is None:
            yield doctor_backend.unasked()
        elif place.verdict is Verdict.FAILED:
            yield skipped(doctor_backend.ANSWER, "needs a backend that is there")
        else:
            yield self._ask(self._order.question, heard)

    def _ask(self, text: str, heard: Heard | None) -> Finding:
        if lacking := self._lacking(doctor_backend.ANSWER, _ASKING):
            return lacking
        data = heard.data if heard is not None and heard.refusal is None else {}
        team_id, user_id = data.get("team_id", _NOBODY[0]), data.get("user_id", _NOBODY[1])
        return doctor_backend.answer(self._settings, text, team_id=team_id, user_id=user_id)

    def _collector(self) -> Finding:
        if lacking := self._lacking(doctor_collector.COLLECTOR, ("OTEL_EXPORTER",)):
            return lacking
        return doctor_collector.collector(self._settings.otel_exporter, self._variables)

    def _health(self) -> tuple[Finding, bool]:
        if lacking := self._lacking(doctor_health.HEALTH, ("HTTP_HOST", "HTTP_PORT")):
            return lacking, False
        return doctor_health.health(self._settings.http_host, self._settings.http_port)

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
