from __future__ import annotations

import enum
import itertools
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import SecretStr

from chatrelaybot.errors import ConfigurationError
from chatrelaybot.events import ReplyIn
from chatrelaybot.settings import Settings, load_settings

_TOP = Path(__file__).parent.parent
_BOT = "xoxb-1-2-BotSecret"
_APP = "xapp-1-A1-2-AppSecret"
_SURROUNDINGS = (
    "CREDENTIALS_DIRECTORY",
    "STATE_DIRECTORY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
)


@pytest.fixture(name="here", autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory, and an environment with the two tokens alone."""
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
        monkeypatch.delenv(field, raising=False)
    for name in _SURROUNDINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLACK_BOT_TOKEN", _BOT)
    monkeypatch.setenv("SLACK_APP_TOKEN", _APP)
    return tmp_path


@pytest.fixture(name="credentials")
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    directory = tmp_path / "credentials"
    directory.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    return directory


def _problem(monkeypatch: pytest.MonkeyPatch, **values: str) -> str:
    """The one line that `load_settings` says about an environment."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{caught.value.setting}: ")
    return message


def test_the_tokens_alone_are_a_whole_configuration() -> None:
    settings = load_settings()

    assert settings.slack_bot_token.get_secret_value() == _BOT
    assert settings.slack_app_token.get_secret_value() == _APP


# --- where a value comes from ---------------------------------------------------------------


def test_the_environment_wins_over_the_file_which_wins_over_the_credential(
    monkeypatch: pytest.MonkeyPatch, here: Path, credentials: Path
) -> None:
    for name in ("WORKERS", "QUEUE_LIMIT", "PORT"):
        (credentials / name).write_text("3\n")
    (here / ".env").write_text("WORKERS=2\nQUEUE_LIMIT=2\n")
    monkeypatch.setenv("WORKERS", "1")

    settings = load_settings()

    assert (settings.workers, settings.queue_limit, settings.port) == (1, 2, 3)


def test_an_empty_value_falls_through_each_step_to_the_default(
    monkeypatch: pytest.MonkeyPatch, here: Path, credentials: Path
) -> None:
    monkeypatch.setenv("WORKERS", "")
    monkeypatch.setenv("QUEUE_LIMIT", "")
    (here / ".env").write_text('WORKERS=7\nQUEUE_LIMIT=\nHTTP_PORT=""\nPLACEHOLDER\n')
    (credentials / "QUEUE_LIMIT").write_text("8")
    (credentials / "HTTP_PORT").write_text("\n")

    settings = load_settings()

    assert (settings.workers, settings.queue_limit) == (7, 8)
    assert (settings.http_port, settings.placeholder) == (8081, "_Thinking…_")


def test_a_secret_comes_from_a_credential_file_without_its_newline(
    monkeypatch: pytest.MonkeyPatch, credentials: Path
) -> None:
    monkeypatch.delenv("SLACK_BOT_TOKEN")
    (credentials / "SLACK_BOT_TOKEN").write_text("xoxb-from-a-file\n")

    assert load_settings().slack_bot_token.get_secret_value() == "xoxb-from-a-file"


def test_a_credential_directory_that_is_gone_is_no_source(
    monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(here / "gone"))

    assert load_settings().workers == 100


def test_names_are_the_same_in_any_case(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setenv("workers", "4")
    (here / ".env").write_text("Queue_Limit=5\n")

    settings = load_settings()

    assert (settings.workers, settings.queue_limit) == (4, 5)


def test_unknown_names_in_the_file_are_passed_over(here: Path) -> None:
    (here / ".env").write_text("WORKERSS=5\nCOMPOSE_PROJECT_NAME=bot\n")

    assert load_settings().workers == 100


def test_a_file_that_is_not_utf8_is_named(here: Path) -> None:
    (here / ".env").write_bytes(b"BACKEND_TOKEN=\xffsecret\n")

    with pytest.raises(ConfigurationError, match=r"\.env.*UTF-8") as caught:
        load_settings()

    assert "secret" not in str(caught.value)


# --- defaults that depend on the surroundings -----------------------------------------------


def test_the_database_is_in_the_working_directory(here: Path) -> None:
    assert load_settings().database_url == f"sqlite:///{here}/chatrelaybot.sqlite3"


def test_the_database_is_in_the_first_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/bot:/var/lib/other")

    assert load_settings().database_url == "sqlite:////var/lib/bot/chatrelaybot.sqlite3"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "PostgreSQL+psycopg"])
def test_a_database_on_a_server_is_named_in_the_usual_ways(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://bot:a%40b@db.example/inbox?sslmode=require")

    settings = load_settings()

    assert settings.database_url == (
        "postgresql+psycopg://bot:a%40b@db.example/inbox?sslmode=require"
    )
    assert "a%40b" not in repr(settings)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), "text"),
        (("INVOCATION_ID",), "text"),
        (("NOTIFY_SOCKET",), "text"),
        (("INVOCATION_ID", "JOURNAL_STREAM"), "json"),
        (("INVOCATION_ID", "NOTIFY_SOCKET"), "json"),
    ],
)
def test_the_log_is_json_under_systemd(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], expected: str
) -> None:
    for name in names:
        monkeypatch.setenv(name, "8:1")

    assert load_settings().log_format == expected


# --- values ---------------------------------------------------------------------------------


def test_off_turns_off_what_can_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PORT", "off")
    monkeypatch.setenv("SLACK_BUSY_REACTION", "Off")

    settings = load_settings()

    assert settings.http_port is None
    assert settings.slack_busy_reaction is None


def test_words_are_read_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLY_IN", "Channel")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    monkeypatch.setenv("LOG_FORMAT", "JSON")

    settings = load_settings()

    assert settings.reply_in is ReplyIn.CHANNEL
    assert (settings.log_level, settings.log_format) == ("DEBUG", "json")


def test_channels_are_a_set_of_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_CHANNEL", " C1, G2 ,,C1")

    assert load_settings().slack_channel == {"C1", "G2"}


def test_headers_are_a_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKEND_HEADERS", '{"X-Team": "support", "x-api-key": "k"}')

    assert load_settings().backend_headers == {"X-Team": "support", "x-api-key": "k"}


def test_a_separator_may_be_a_line_break_or_a_space(here: Path) -> None:
    (here / ".env").write_text('BACKEND_PART_SEPARATOR="\\n\\n "\n')

    assert load_settings().backend_part_separator == "\n\n "


def test_the_api_base_ends_with_a_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_API_URL", "https://slack-gov.com/api")

    assert load_settings().slack_api_url == "https://slack-gov.com/api/"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "a.localhost"])
def test_tokens_may_travel_in_the_clear_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("SLACK_API_URL", f"http://{host}:9000/api/")

    assert load_settings().slack_api_url == f"http://{host}:9000/api/"


def test_the_openai_dialect_takes_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKEND_DIALECT", "openai")
    monkeypatch.setenv("BACKEND_MODEL", "qwen3")

    assert load_settings().backend_model == "qwen3"


def test_settings_cannot_be_changed() -> None:
    settings = load_settings()

    with pytest.raises(ValueError, match="frozen"):
        settings.workers = 5


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"])
def test_a_missing_token_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    message = _problem(monkeypatch, **{name: ""})

    assert message.startswith(f"{name}: it is not set; ")


def test_a_command_without_slack_needs_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLACK_BOT_TOKEN")
    monkeypatch.delenv("SLACK_APP_TOKEN")

    assert load_settings(needs_slack=False).port == 8080


def test_a_swapped_pair_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    message = _problem(monkeypatch, SLACK_BOT_TOKEN=_APP, SLACK_APP_TOKEN=_BOT)

    assert "swapped" in message
    assert "SLACK_APP_TOKEN" in message
    assert "Secret" not in message


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SLACK_BOT_TOKEN", "xoxp-1-Secret", "SLACK_BOT_TOKEN: .*it holds a user token"),
        ("SLACK_BOT_TOKEN", "xoxe.xoxb-1-Secret", "SLACK_BOT_TOKEN: .*a rotating token"),
        ("SLACK_BOT_TOKEN", "xapp-1-Secret", "SLACK_BOT_TOKEN: .*an app-level token"),
        ("SLACK_BOT_TOKEN", "Secret", "SLACK_BOT_TOKEN: .*something else"),
        ("SLACK_BOT_TOKEN", "xoxb-", "SLACK_BOT_TOKEN: .*not a whole token"),
        ("SLACK_BOT_TOKEN", "xoxb-…Secret", "SLACK_BOT_TOKEN: .*not a whole token"),
        ("SLACK_BOT_TOKEN", "xoxb-1 Secret", "SLACK_BOT_TOKEN: .*not a whole token"),
        ("SLACK_APP_TOKEN", "xoxb-1-Secret", "SLACK_APP_TOKEN: .*it holds a bot token"),
        ("BACKEND_TOKEN", "Bearer Secret", "BACKEND_TOKEN: .*the word Bearer"),
        ("BACKEND_TOKEN", "my Secret", "BACKEND_TOKEN: .*no token has"),
        ("BACKEND_TOKEN", "a\r\nX-Secret: b", "BACKEND_TOKEN: .*no token has"),
        ("BACKEND_URL", "http://u:Secret@host/x", "BACKEND_URL: .*a password"),
        ("BACKEND_URL", "http://host:Secret/x", "BACKEND_URL: it is not a URL"),
        ("BACKEND_HEADERS", '{"A": "Secret"', "BACKEND_HEADERS: it is not JSON"),
        ("BACKEND_HEADERS", '["Secret"]', "BACKEND_HEADERS: .*object of strings"),
        ("BACKEND_HEADERS", '{"A": ["Secret"]}', "BACKEND_HEADERS: .*object of strings"),
        ("BACKEND_HEADERS", '{"A": "x\\nB: Secret"}', "BACKEND_HEADERS: the value of A"),
        ("DATABASE_URL", "postgresql+asyncpg://u:Secret@db/x", "DATABASE_URL: .*driver asyncpg"),
        ("DATABASE_URL", "postgres://u:Secret@db", "DATABASE_URL: .*no PostgreSQL database"),
        ("DATABASE_URL", "postgres:x?password=Secret", "DATABASE_URL: .*no PostgreSQL database"),
        ("DATABASE_URL", "mysql://u:Secret@db/x", "DATABASE_URL: mysql is not supported"),
        ("DATABASE_URL", "Secret", "DATABASE_URL: it is not a database URL"),
        ("PORT", "xoxb-1-Secret", "PORT: the value should be a valid integer"),
        ("WORKERS", "a Secret with more words", "WORKERS: the value should be"),
        ("REPLY_IN", "xapp-1-Secret", "REPLY_IN: the value should be 'thread' or 'channel'"),
    ],
)
def test_a_wrong_value_is_explained_without_the_secret_in_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    message = _problem(monkeypatch, **{name: value})

    assert re.match(words, message)
    assert "secret" not in message.lower()


def test_the_traceback_of_a_wrong_secret_does_not_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKEND_TOKEN", "my Secret")

    with pytest.raises(ConfigurationError) as caught:
        load_settings()

    assert "Secret" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("EDIT_SECONDS", "fast", "“fast” should be a valid number.*default \\(1.0\\)"),
        ("EDIT_SECONDS", "0", "greater than 0"),
        ("EDIT_SECONDS", "nan", "should be"),
        ("DRAIN_SECONDS", "inf", "should be"),
        ("BACKEND_IDLE_SECONDS", "-1", "“-1” should be greater than 0"),
        ("BACKEND_SILENCE_SECONDS", "1e9", "less than or equal to 86400"),
        ("RETENTION_HOURS", "0", "greater than 0"),
        ("WORKERS", "1.5", "valid integer"),
        ("WORKERS", "0", "greater than or equal to 1"),
        ("PORT", "65536", "less than or equal to 65535"),
        ("PORT", "off", "valid integer"),
        ("HTTP_PORT", "none", "valid integer"),
        ("HTTP_HOST", " ", "blank"),
        ("BACKEND_DIALECT", "grpc", "“grpc” should be 'relay' or 'openai'"),
        ("LOG_LEVEL", "loud", "“LOUD” should be 'DEBUG'"),
        ("OTEL_EXPORTER", "zipkin", "'otlp', 'console' or 'none'"),
        ("BACKEND_URL", "localhost:8080/v1", "not an http or https URL"),
        ("BACKEND_URL", "ftp://host/", "not an http or https URL"),
        ("BACKEND_URL", "http:///path", "not a whole URL"),
        ("BACKEND_URL", "http://ho st/", "not a whole URL"),
        ("BACKEND_URL", "http://host/#top", "fragment"),
        ("SLACK_API_URL", "http://slack.com/api/", "plain http"),
        ("SLACK_API_URL", "http://127.0.0.1.example.com/", "plain http"),
        ("SLACK_API_URL", "https://slack.com/api/?a=b", "query"),
        ("SLACK_CHANNEL", "C1,#general", "by its id"),
        ("SLACK_TEST_CHANNEL", "general", "by its id"),
        ("SLACK_BOT_USER_ID", "B0123", "not a user id"),
        ("SLACK_BUSY_REACTION", "two words", "name of an emoji"),
        ("PLACEHOLDER", "  ", "blank"),
        ("BACKEND_HEADERS", '{"accept": "x"}', "accept is set by the program itself"),
        ("BACKEND_HEADERS", '{"Content-Type": "x"}', "Content-Type is set"),
        ("BACKEND_HEADERS", '{"Idempotency-Key": "x"}', "Idempotency-Key is set"),
        ("BACKEND_HEADERS", '{"TraceParent": "x"}', "TraceParent is set"),
        ("BACKEND_HEADERS", '{"X Y": "x"}', "not a header name"),
        ("DATABASE_URL", "sqlite://", "not the URL of an SQLite file"),
        ("DATABASE_URL", "sqlite:///:memory:", "in memory"),
        ("DATABASE_URL", "sqlite+aiosqlite:///x.db", "not the URL of an SQLite file"),
    ],
)
def test_a_wrong_value_is_named_with_its_mend(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    message = _problem(monkeypatch, **{name: value})

    assert message.startswith(f"{name}: ")
    assert re.search(words, message)
    assert message.count("; ") >= 1


def test_the_openai_dialect_needs_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    message = _problem(monkeypatch, BACKEND_DIALECT="openai")

    assert message.startswith("BACKEND_MODEL: the openai dialect needs a model; ")


def test_two_authorizations_are_a_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    message = _problem(
        monkeypatch, BACKEND_TOKEN="a", BACKEND_HEADERS='{"authorization": "Basic b"}'
    )

    assert message.startswith("BACKEND_HEADERS: BACKEND_TOKEN and an Authorization header")


def test_the_repr_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKEND_TOKEN", "BackendSecret")
    monkeypatch.setenv("BACKEND_HEADERS", '{"X-Api-Key": "HeaderSecret"}')

    assert "Secret'" not in repr(load_settings())
    assert "HeaderSecret" not in repr(load_settings())


# --- .env.example ---------------------------------------------------------------------------


def test_the_example_file_explains_each_setting_in_order() -> None:
    lines = (_TOP / ".env.example").read_text(encoding="utf-8").splitlines()
    explained = [
        (below.partition("=")[0], line.removeprefix("# "))
        for line, below in itertools.pairwise(lines)
        if "=" in below and not below.startswith("#")
    ]

    expected = [(name.upper(), field.description) for name, field in Settings.model_fields.items()]
    assert expected == explained


def test_the_example_file_shows_the_defaults() -> None:
    shown = dotenv_values(_TOP / ".env.example")

    assert {name.upper(): _default(name) for name in Settings.model_fields} == shown


def test_the_example_file_is_a_configuration_once_the_tokens_are_set(here: Path) -> None:
    without_file = load_settings()
    (here / ".env").write_bytes((_TOP / ".env.example").read_bytes())

    assert without_file == load_settings()


def _default(name: str) -> str:
    """The default as it stands in the example; empty where it depends on the surroundings."""
    default = Settings.model_fields[name].default
    if name in ("backend_url", "log_level"):  # The playground has defaults of its own.
        return ""
    if Settings.model_fields[name].default_factory or default in (None, frozenset()):
        return ""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    return str(default.value if isinstance(default, enum.Enum) else default)


def test_reading_settings_loads_no_door_of_the_network() -> None:
    """`chatrelaybot manifest` and the like should start at once."""
    code = "import sys, chatrelaybot.settings; print(*sys.modules)"
    run = subprocess.run(  # noqa: S603 our own interpreter and text
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    loaded = set(run.stdout.split())
    assert not loaded & {"requests", "slack_sdk", "sqlalchemy", "aiohttp", "opentelemetry"}
