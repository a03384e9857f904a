"""What each refusal and each failure of a Web API call means."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import pytest
import requests
import responses
import urllib3
from slack_sdk.errors import SlackApiError

from chatrelaybot.errors import (
    BlocksRefused,
    ChatRelayBotError,
    ConfigurationError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
    Undeliverable,
)
from chatrelaybot.render import Message
from chatrelaybot.slack import Slack

API = "https://slack.example/api/"
TOKEN = "xoxb-made-up"
MESSAGE = Message(markdown="Words of an answer.", text="Words of an answer.")


@pytest.fixture(name="slack")
def _slack() -> Iterator[Slack]:
    slack = Slack(bot_token=TOKEN, api_url=API, pool_size=1)
    yield slack
    slack.close()


def _error(slack: Slack, **answer: object) -> ChatRelayBotError:
    """Return what an update raises when this is the answer."""
    with responses.RequestsMock() as mock:
        mock.post(f"{API}chat.update", **answer)
        with pytest.raises(ChatRelayBotError) as caught:
            slack.update("C1", "1.1", MESSAGE)
        assert len(mock.calls) == 1
    return caught.value


def _refusal(slack: Slack, code: str, *, status: int = 200, **more: object) -> ChatRelayBotError:
    return _error(slack, json={"ok": False, "error": code, **more}, status=status)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ratelimited", RateLimited),
        ("rate_limited", RateLimited),
        ("internal_error", OutcomeUnknown),
        ("fatal_error", OutcomeUnknown),
        ("service_unavailable", TransientError),
        ("request_timeout", TransientError),
        ("update_failed", TransientError),
        ("external_channel_migrating", TransientError),
        ("team_added_to_org", TransientError),
        ("org_login_required", TransientError),
        ("message_not_found", Undeliverable),
        ("channel_not_found", Undeliverable),
        ("thread_not_found", Undeliverable),
        ("is_archived", Undeliverable),
        ("is_inactive", Undeliverable),
        ("not_in_channel", Undeliverable),
        ("cant_update_message", Undeliverable),
        ("cant_delete_message", Undeliverable),
        ("edit_window_closed", Undeliverable),
        ("messages_tab_disabled", Undeliverable),
        ("cannot_reply_to_message", Undeliverable),
        ("restricted_action", Undeliverable),
        ("restricted_action_thread_locked", Undeliverable),
        ("msg_too_long", BlocksRefused),
        ("msg_too_large", BlocksRefused),
        ("msg_blocks_too_long", BlocksRefused),
        ("invalid_blocks", BlocksRefused),
        ("invalid_blocks_format", BlocksRefused),
        ("block_mismatch", BlocksRefused),
        ("invalid_auth", ConfigurationError),
        ("not_authed", ConfigurationError),
        ("account_inactive", ConfigurationError),
        ("token_revoked", ConfigurationError),
        ("token_expired", ConfigurationError),
        ("not_allowed_token_type", ConfigurationError),
        ("missing_scope", PermanentError),
        ("metadata_too_large", PermanentError),
        ("a_code_of_next_year", PermanentError),
    ],
)
def test_each_code_means_one_thing(
    slack: Slack, code: str, expected: type[ChatRelayBotError]
) -> None:
    error = _refusal(slack, code)

    assert type(error) is expected
    assert code in str(error)
    assert isinstance(error.__cause__, SlackApiError)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, OutcomeUnknown),
        (302, PermanentError),
        (403, PermanentError),
        (404, PermanentError),
        (429, RateLimited),
        (500, OutcomeUnknown),
        (502, OutcomeUnknown),
        (503, OutcomeUnknown),
        (504, OutcomeUnknown),
    ],
)
@pytest.mark.parametrize(
    "body", [b"<html>Gr\xfc\xdfe</html>", "", "[1]", '"ok"', '{"ok": true', "{}", '{"error": 1}']
)
def test_an_answer_that_is_not_slacks_is_judged_by_its_status(
    slack: Slack, status: int, expected: type[ChatRelayBotError], body: str | bytes
) -> None:
    error = _error(slack, body=body, status=status)

    assert type(error) is expected
    assert str(error) == f"chat.update: HTTP {status}"


def test_a_code_counts_more_than_the_status(slack: Slack) -> None:
    assert type(_refusal(slack, "service_unavailable", status=503)) is TransientError
    assert type(_refusal(slack, "message_not_found", status=500)) is Undeliverable
    assert type(_refusal(slack, "a_code_of_next_year", status=500)) is OutcomeUnknown


def test_a_redirect_is_not_followed(slack: Slack) -> None:
    """It would take the token and the answer to another place."""
    error = _error(slack, status=307, headers={"Location": "https://elsewhere.example/"})

    assert type(error) is PermanentError


@pytest.mark.parametrize(
    ("value", "expected"),
    [("30", 30.0), ("1.5", 1.5), ("0", 1.0), ("", 10.0), ("soon", 10.0), ("-5", 10.0)],
)
@pytest.mark.parametrize("name", ["Retry-After", "retry-after"])
def test_a_retry_after_is_obeyed_and_a_missing_one_is_a_guess(
    slack: Slack, name: str, value: str, expected: float
) -> None:
    error = _error(slack, status=429, body="slow down", headers={name: value})

    assert isinstance(error, RateLimited)
    assert error.retry_after == expected


def test_a_refusal_for_now_without_a_retry_after_waits_as_well(slack: Slack) -> None:
    error = _refusal(slack, "ratelimited")

    assert isinstance(error, RateLimited)
    assert error.retry_after == 10.0


def test_a_slack_that_is_down_may_say_for_how_long(slack: Slack) -> None:
    error = _error(slack, status=503, body="", headers={"Retry-After": "20"})

    assert isinstance(error, OutcomeUnknown)
    assert error.retry_after == 20.0


def test_a_missing_scope_is_named(slack: Slack) -> None:
    error = _refusal(slack, "missing_scope", needed="chat:write", provided="commands")

    assert str(error) == "chat.update: missing_scope, needed: chat:write"


@pytest.mark.parametrize("code", ["invalid_auth", "missing_scope", "not_allowed_token_type"])
def test_a_refused_app_token_names_its_setting(slack: Slack, code: str) -> None:
    with responses.RequestsMock() as mock:
        mock.post(f"{API}apps.connections.open", json={"ok": False, "error": code})
        with pytest.raises(ConfigurationError, match=code) as caught:
            slack.open_link_url("xapp-1")

    assert caught.value.setting == "SLACK_APP_TOKEN"


def test_a_refused_bot_token_names_its_setting(slack: Slack) -> None:
    error = _refusal(slack, "token_revoked")

    assert isinstance(error, ConfigurationError)
    assert error.setting == "SLACK_BOT_TOKEN"


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (requests.ConnectTimeout(), TransientError),
        (requests.exceptions.ProxyError(), TransientError),
        (requests.ReadTimeout(), OutcomeUnknown),
        (requests.exceptions.ChunkedEncodingError(), OutcomeUnknown),
        (requests.exceptions.ContentDecodingError(), OutcomeUnknown),
        (requests.exceptions.SSLError(urllib3.exceptions.SSLError("bad mac")), OutcomeUnknown),
        (requests.ConnectionError(), OutcomeUnknown),
        (requests.ConnectionError("Read timed out."), OutcomeUnknown),
    ],
)
def test_a_call_without_an_answer_is_unsent_or_unknown(
    slack: Slack, cause: Exception, expected: type[ChatRelayBotError]
) -> None:
    error = _error(slack, body=cause)

    assert type(error) is expected
    assert str(error) == f"chat.update: {type(cause).__name__}"
    assert error.__cause__ is cause


@pytest.mark.parametrize(
    "answer",
    [
        {"json": {"ok": False, "error": "invalid_blocks"}},
        {"json": {"ok": False, "error": "Words of an answer."}},
        {"json": {"ok": False, "error": "words of an answer"}},
        {"json": {"ok": True, "text": "Words of an answer."}, "status": 500},
        {"body": '{"text": "Words of an answer.'},
        {"body": "<p>Words of an answer.</p>"},
        {"body": requests.ReadTimeout()},
    ],
)
def test_no_error_quotes_an_answer_or_a_token(slack: Slack, answer: dict[str, object]) -> None:
    """Not even in the traceback, where the SDK's error would be."""
    error = _error(slack, **answer)

    printed = "".join(traceback.format_exception(error))
    assert "of an answer" not in printed
    assert TOKEN not in printed
