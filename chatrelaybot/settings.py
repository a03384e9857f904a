"""Every setting, typed, with its unit: from the environment, `.env`, credential files, or default.

Unset and empty are the same at each of these steps. Durations are float seconds.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from chatrelaybot import settings_checks as checks
from chatrelaybot.errors import ConfigurationError
from chatrelaybot.events import ReplyIn

_DATABASE_FILE = "chatrelaybot.sqlite3"
#: In the working directory.
ENV_FILE = ".env"

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PerMinute = Annotated[int, Field(ge=1, le=6000)]
_ANY_CASE = BeforeValidator(checks.lower)


def _database_url() -> str:
    """SQLite in the directory that systemd made for us (the first, of several), else here."""
    directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return f"sqlite:///{Path(directory or Path.cwd()).absolute() / _DATABASE_FILE}"


def _log_format() -> Literal["json", "text"]:
    """JSON where systemd reads it, else text."""
    # INVOCATION_ID alone would also match a terminal in a desktop session:
    # https://www.freedesktop.org/software/systemd/man/systemd.exec.html
    is_service = os.environ.get("JOURNAL_STREAM") or os.environ.get("NOTIFY_SOCKET")
    return "json" if os.environ.get("INVOCATION_ID") and is_service else "text"


class _Credentials(SecretsSettingsSource):
    """systemd's credentials, one file a setting: https://systemd.io/CREDENTIALS/."""

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if value != ""}


class Settings(BaseSettings):
    """The settings of the program, in the order of the README's table."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        enable_decoding=False,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    slack_bot_token: Annotated[
        SecretStr, AfterValidator(partial(checks.slack_token, prefix="xoxb-"))
    ] = Field(default=SecretStr(""), description="the bot token (xoxb-…); secret, required")
    slack_app_token: Annotated[
        SecretStr, AfterValidator(partial(checks.slack_token, prefix="xapp-"))
    ] = Field(default=SecretStr(""), description="the app-level token (xapp-…); secret, required")
    slack_api_url: Annotated[str, AfterValidator(checks.slack_api_url)] = Field(
        default="https://slack.com/api/", description="base of Slack's Web API"
    )
    slack_bot_user_id: Annotated[str | None, AfterValidator(checks.user_id)] = Field(
        default=None, description="the bot's user id; empty: Slack is asked at the start"
    )
    slack_channel: Annotated[frozenset[str], BeforeValidator(checks.channel_ids)] = Field(
        default=frozenset(),
        description="answer in these channels only (comma-separated ids); empty: everywhere",
    )
    slack_test_channel: Annotated[str, AfterValidator(checks.channel_id)] = Field(
        default="", description="id of the channel where doctor --send and the live tests post"
    )
    backend_url: Annotated[str, AfterValidator(checks.http_url)] = Field(
        default="http://localhost:8080/v1/chat/stream",
        description="where questions are sent; empty: http://localhost:8080/v1/chat/stream, "
        "in the playground its sample backend",
    )
    backend_dialect: Annotated[Literal["relay", "openai"], _ANY_CASE] = Field(
        default="relay", description="wire format of the backend: relay or openai"
    )
    backend_model: str = Field(
        default="",
        description="the model to ask for; the openai dialect needs one, relay ignores it",
    )
    backend_system_prompt: str = Field(
        default="", description="instructions sent before each question; the openai dialect only"
    )
    backend_token: Annotated[SecretStr, AfterValidator(checks.bearer_token)] = Field(
        default=SecretStr(""), description="sent to the backend as Authorization: Bearer …; secret"
    )
    backend_headers: Annotated[
        dict[str, str], BeforeValidator(checks.header_object), AfterValidator(checks.headers)
    ] = Field(
        default_factory=dict,
        repr=False,
        description='more request headers, a JSON object such as {"X-Team": "support"}; secret',
    )
    backend_part_separator: str = Field(
        default="", description=r'put between two parts of an answer; in .env, "\n" is a line break'
    )
    backend_connect_seconds: Seconds = Field(
        default=5.0, le=300, description="longest wait for a connection to the backend, in seconds"
    )
    backend_idle_seconds: Seconds = Field(
        default=60.0, le=3600, description="longest wait for the backend's next byte, in seconds"
    )
    backend_silence_seconds: Seconds = Field(
        default=300.0, le=86400, description="longest wait for the backend's next text, in seconds"
    )
    answer_max_chars: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="characters after which an answer is ended",
    )
    port: Port = Field(default=8080, description="the sample backend's port; 0: any free one")
    http_host: Annotated[str, AfterValidator(checks.not_blank)] = Field(
        default="127.0.0.1", description="address of the health and metrics server"
    )
    http_port: Annotated[Port | None, BeforeValidator(checks.off_is_none)] = Field(
        default=8081,
        description="port of the health and metrics server; 0: any free one; off: no server",
    )
    workers: int = Field(default=100, ge=1, le=1000, description="answers at once")
    queue_limit: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="waiting questions before new ones are refused",
    )
    edit_seconds: Seconds = Field(
        default=1.0, le=60, description="least time between two edits of one reply, in seconds"
    )
    edits_per_minute: PerMinute = Field(
        default=50, description="edits of one workspace, per minute, where learning starts"
    )
    posts_per_minute: PerMinute = Field(
        default=200, description="posts of one workspace, per minute, where learning starts"
    )
    overflow_seconds: Seconds = Field(
        default=5.0,
        le=3600,
        description="longest wait of a finished answer for its edit, in seconds",
    )
    slack_busy_reaction: Annotated[
        str | None, BeforeValidator(checks.off_is_none), AfterValidator(checks.reaction_name)
    ] = Field(
        default="hourglass_flowing_sand",
        description="reaction to a question that waits in a crowd; off: none",
    )
    reply_in: Annotated[ReplyIn, _ANY_CASE] = Field(
        default=ReplyIn.THREAD,
        description="where a mention in a channel is answered: thread or channel",
    )
    placeholder: Annotated[str, AfterValidator(checks.not_blank)] = Field(
        default="_Thinking…_",
        max_length=500,
        description="what a reply shows before its first text",
    )
    database_url: Annotated[str, AfterValidator(checks.database_url)] = Field(
        default_factory=_database_url,
        repr=False,
        description="the inbox: sqlite:///FILE, or for several instances "
        "postgresql+psycopg://USER:PASSWORD@HOST/NAME; empty: a file in $STATE_DIRECTORY, "
        "else here",
    )
    drain_seconds: Seconds = Field(
        default=50.0, le=3600, description="how long a stop waits for running answers, in seconds"
    )
    catch_up_minutes: float = Field(
        default=30.0,
        ge=0,
        le=1440,
        allow_inf_nan=False,
        description="how far back to look for questions that came while no link was up, "
        "in minutes; 0: not at all",
    )
    retention_hours: float = Field(
        default=24.0,
        gt=0,
        le=8760,
        allow_inf_nan=False,
        description="how long a finished question is known as a duplicate, in hours",
    )
    log_format: Annotated[Literal["json", "text"], _ANY_CASE] = Field(
        default_factory=_log_format,
        description="json or text; empty: json under systemd, else text",
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(checks.upper)
    ] = Field(
        default="INFO",
        description="DEBUG, INFO, WARNING or ERROR; empty: INFO, in the playground WARNING",
    )
    otel_exporter: Annotated[Literal["otlp", "console", "none"], _ANY_CASE] = Field(
        default="none",
        description="where traces, metrics and logs go: otlp, console or none; "
        "OpenTelemetry's own OTEL_* variables are honoured, and win",
    )

    @model_validator(mode="before")
    @classmethod
    def _check_tokens_together(cls, values: dict[str, Any]) -> dict[str, Any]:
        checks.tokens_are_not_swapped(values)
        return values

    @model_validator(mode="after")
    def _check_backend_together(self) -> Self:
        if self.backend_dialect == "openai" and not self.backend_model:
            raise checks.WrongValue(
                "the openai dialect needs a model",
                "name one that the backend serves (Ollama and llama.cpp take any name)",
                setting="BACKEND_MODEL",
            )
        named = {name.lower() for name in self.backend_headers}
        if "authorization" in named and self.backend_token.get_secret_value():
            raise checks.WrongValue(
                "BACKEND_TOKEN and an Authorization header are both set",
                "leave one of them out",
                setting="BACKEND_HEADERS",
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 replaced by ours
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Give the sources, the strongest first."""
        directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
        # The variable outlives the directory in a shell that a stopped unit left behind.
        credentials = _Credentials(settings_cls, directory if Path(directory).is_dir() else None)
        return init_settings, env_settings, dotenv_settings, credentials


def load_settings(*, needs_slack: bool = True) -> Settings:
    """Read every setting; `needs_slack` False is for commands that never talk to Slack.

    Raises:
        ConfigurationError: on the first setting that is wrong, without the value of a secret.
    """
    settings = _read()
    if isinstance(settings, ConfigurationError):
        # Raised here, where pydantic's error, which holds the values, is no longer its context.
        raise settings
    for missing in missing_tokens(settings) if needs_slack else ():
        raise missing
    return settings


def missing_tokens(settings: Settings) -> list[ConfigurationError]:
    """Name the tokens that are not set, which only what talks to Slack needs."""
    return [
        ConfigurationError(
            name.upper(), "it is not set", f"set it to the Slack app's {prefix}… token"
        )
        for name, prefix in (("slack_bot_token", "xoxb-"), ("slack_app_token", "xapp-"))
        if not getattr(settings, name).get_secret_value()
    ]


def _read() -> Settings | ConfigurationError:
    try:
        return Settings()
    except ValidationError as error:
        return explain(error)[0]
    except (OSError, UnicodeDecodeError) as error:
        file = getattr(error, "filename", None) or f"{ENV_FILE} or a credential"
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        return ConfigurationError(str(file), f"cannot be read ({reason})", "mend or remove it")


def explain(error: ValidationError) -> list[ConfigurationError]:
    """Put each of pydantic's findings into one line."""
    return [_explain(found) for found in error.errors(include_url=False)]


def _explain(found: ErrorDetails) -> ConfigurationError:
    name = str(found["loc"][0]) if found["loc"] else ""
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, checks.WrongValue):
        return ConfigurationError(cause.setting or name.upper(), cause.problem, cause.mend)
    default = Settings.model_fields[name].get_default(call_default_factory=True)
    problem = f"{_shown(found['input'])} {found['msg'].removeprefix('Input ')}"
    return ConfigurationError(
        name.upper(), problem, f"mend it, or leave it empty for the default ({default})"
    )


def _shown(value: object) -> str:
    """Repeat a value that is surely no secret put into the wrong place: a short, plain word."""
    is_plain = isinstance(value, str) and re.fullmatch(r"(?!xox|xapp)[\w.+-]{1,16}", value)
    return f"“{value}”" if is_plain else "the value"
