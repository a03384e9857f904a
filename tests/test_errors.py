from __future__ import annotations

import pytest

from chatrelaybot import errors


def test_the_docstring_is_the_default_message() -> None:
    assert str(errors.LeaseLost()) == "Another process has the question now."
    assert str(errors.RateLimited(retry_after=3)) == "Slack refused the call for now."


def test_a_given_message_takes_its_place() -> None:
    assert str(errors.PermanentError("channel_not_found")) == "channel_not_found"


def test_a_configuration_error_names_setting_problem_and_mend() -> None:
    error = errors.ConfigurationError("PORT", "70000 is no port", "use 1 to 65535")

    assert str(error) == "PORT: 70000 is no port; use 1 to 65535"
    assert error.setting == "PORT"


@pytest.mark.parametrize(
    ("leaf", "family"),
    [
        (errors.RateLimited, errors.TransientError),
        (errors.OutcomeUnknown, errors.TransientError),
        (errors.Undeliverable, errors.PermanentError),
        (errors.BlocksRefused, errors.PermanentError),
        (errors.LeaseLost, errors.ChatRelayBotError),
    ],
)
def test_leaves_belong_to_their_family(leaf: type[Exception], family: type[Exception]) -> None:
    assert issubclass(leaf, family)
    assert issubclass(family, errors.ChatRelayBotError)
