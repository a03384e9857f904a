"""Settings that are read again while the bot runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from chatrelaybot.errors import ConfigurationError
from chatrelaybot.settings import Settings
from chatrelaybot.telemetry_logs import configure_logging

_log = logging.getLogger(__name__)

#: What takes effect in a running bot; all else is built in.
_AT_ONCE = ("log_level", "slack_channel")


class Reload:
    """Reads the settings again, and has what can change change. One thread at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        reread: Callable[[], Settings] | None,
        answer_in: Callable[[frozenset[str]], None],
        otel_variables: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`reread()` reads them from where `settings` came from; None: they came from nowhere.

        `otel_variables()` reads OpenTelemetry's from there.
        """
        self._settings = settings
        self._otel_variables = otel_variables
        self._variables = otel_variables() if reread is not None else {}
        self._reread = reread
        self._answer_in = answer_in

    def step(self) -> None:
        """Do so once; where the new ones are wrong, the old ones stay."""
        if self._reread is None:
            _log.warning("these settings cannot be read again")
            return
        try:
            new, variables = self._reread(), self._otel_variables()
        except ConfigurationError as error:
            _log.error("settings not read again", extra={"error": str(error)})
            return
        self._take(new, variables)

    def _take(self, new: Settings, variables: Mapping[str, str]) -> None:
        old = self._settings
        changed = [
            name for name in Settings.model_fields if getattr(old, name) != getattr(new, name)
        ]
        self._settings = old.model_copy(update={name: getattr(new, name) for name in _AT_ONCE})
        if "log_level" in changed:
            configure_logging(log_format=old.log_format, level=new.log_level)
        if "slack_channel" in changed:
            self._answer_in(new.slack_channel)
        at_once = [name for name in changed if name in _AT_ONCE]
        _log.info("settings read again", extra={"changed": _names(at_once)})
        later = [name for name in changed if name not in _AT_ONCE]
        later += sorted(
            name
            for name in {*variables, *self._variables}
            if variables.get(name) != self._variables.get(name)
        )
        if later:
            # Names only: some of them are secrets.
            _log.warning("settings wait for the next start", extra={"changed": _names(later)})


def _names(names: list[str]) -> str:
    return ", ".join(name.upper() for name in names) or "none"
