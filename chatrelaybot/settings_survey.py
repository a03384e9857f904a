"""Every setting that is wrong, and settings to go on with where some are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import DotEnvSettingsSource

from chatrelaybot.errors import ConfigurationError
from chatrelaybot.settings import Settings, explain, load_settings, missing_tokens
from chatrelaybot.settings_otel import otel_variables

#: What stands in for a setting that is wrong only beside another one.
_STAND_INS: dict[str, Any] = {
    "slack_bot_token": SecretStr(""),
    "slack_app_token": SecretStr(""),
    "backend_model": "-",
    "backend_headers": {},
}
#: How like a setting's name another one must be to be taken for it; 1 is the same.
_LIKENESS = 0.88
#: Rounds of finding what is wrong: the settings one by one, then together.
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Survey:
    """What is wrong with the settings."""

    #: With the defaults in the place of what is wrong; None: they could not be read at all.
    settings: Settings | None
    wrong: tuple[ConfigurationError, ...]
    unusable: frozenset[str] = frozenset()  #: names of what is wrong, or not set and needed
    misspelt: Mapping[str, str] = field(default_factory=dict)  #: with the name that is meant
    #: OpenTelemetry's variables in .env and credentials; None: they cannot be read.
    otel: Mapping[str, str] | None = None

    def is_good(self, *names: str) -> bool:
        """Tell whether settings can be used, all of them."""
        return self.settings is not None and self.unusable.isdisjoint(names)


def survey() -> Survey:
    """Read all settings, and name all that are wrong, without the value of a secret."""
    replaced: dict[str, Any] = {}
    wrong: list[ConfigurationError] = []
    unusable: set[str] = set()
    for _ in range(_ROUNDS):
        try:
            settings = Settings(**replaced)
        except ValidationError as error:
            found = explain(error)
        except (OSError, UnicodeDecodeError):
            return Survey(None, (_unreadable(),))
        else:
            wrong += [each for each in missing_tokens(settings) if each.setting not in unusable]
            unusable |= {error.setting for error in wrong}
            otel = _otel(wrong)
            return Survey(settings, tuple(wrong), frozenset(unusable), _misspelt(), otel)
        wrong += found
        for each in found:
            replacements = _replacements(each)
            replaced |= replacements
            unusable |= {name.upper() for name in replacements}
    return Survey(None, tuple(wrong))


def _replacements(error: ConfigurationError) -> dict[str, Any]:
    name = error.setting.lower()
    if name == "slack_bot_token" and "swapped" in error.problem:
        # Of the other one the same is true.
        return {each: _STAND_INS[each] for each in ("slack_bot_token", "slack_app_token")}
    if name in _STAND_INS:
        return {name: _STAND_INS[name]}
    return {name: Settings.model_fields[name].get_default(call_default_factory=True)}


def _unreadable() -> ConfigurationError:
    try:
        load_settings(needs_slack=False)
    except ConfigurationError as error:
        return error
    return ConfigurationError(".env", "it could not be read a moment ago", "try again")


def _otel(wrong: list[ConfigurationError]) -> Mapping[str, str] | None:
    try:
        return otel_variables()
    except ConfigurationError as error:
        wrong.append(error)
        return None


def _misspelt() -> dict[str, str]:
    """Return names, in the environment and in .env, that look like one of ours and are none."""
    ours = [name.upper() for name in Settings.model_fields]
    given = {name.upper() for name in (*os.environ, *DotEnvSettingsSource(Settings).env_vars)}
    likely = {
        name: get_close_matches(name, ours, n=1, cutoff=_LIKENESS)
        for name in sorted(given.difference(ours))
    }
    return {name: found[0] for name, found in likely.items() if found}
