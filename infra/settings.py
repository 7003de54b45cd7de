"""Settings: flags > ``ONIBUS_…`` environment variables > ``onibus.toml`` > defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from onibus.infra.errors import OnibusError

SETTINGS_FILE = Path("onibus.toml")
DEFAULT_PORT = 19092


class _Environment(EnvSettingsSource):
    """Treats an empty variable as not set, unless the setting may be empty."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        found = super()._load_env_vars()
        return {name: value for name, value in found.items() if value or name == "onibus_topic_prefix"}


class _TomlFile(TomlConfigSettingsSource):
    """Ignores a byte order mark, which some editors put at the beginning."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        return tomllib.loads(file_path.read_text(encoding="utf-8-sig"))


class Settings(BaseSettings):
    """What every component needs to reach the bus, and where it keeps its files.

    The Kafka fields are passed to kafka-python as they are. Secrets come from the environment or a file,
    never from a flag, and are never logged.
    """

    model_config = SettingsConfigDict(
        env_prefix="ONIBUS_", toml_file=SETTINGS_FILE, extra="forbid", frozen=True
    )

    bootstrap_servers: str = Field(
        f"127.0.0.1:{DEFAULT_PORT}", description="Kafka brokers: host:port, separated by commas."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Protocol for talking to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="SASL mechanism, for the SASL protocols."
    )
    sasl_username: str | None = Field(None, description="SASL user name.")
    sasl_password: SecretStr | None = Field(None, description="SASL password; there is no flag for it.")
    sasl_password_file: Path | None = Field(None, description="File whose first line is the SASL password.")
    ssl_cafile: Path | None = Field(
        None, description="CA certificates (PEM) that signed the brokers' certificates."
    )
    ssl_certfile: Path | None = Field(None, description="Client certificate (PEM), for mutual TLS.")
    ssl_keyfile: Path | None = Field(None, description="Key of the client certificate (PEM).")
    ssl_check_hostname: bool = Field(True, description="Check that a broker's certificate names its host.")

    topic_prefix: str = Field(
        "onibus.", description="Prefix of every topic, consumer group and transactional id."
    )
    partitions: int = Field(16, ge=1, le=1000, description="Partitions of captions, labels and annotations.")
    replication: int = Field(1, ge=1, le=32767, description="Copies of each partition; 3 in production.")

    wire_format: Literal["single-object", "confluent"] = Field(
        "single-object", description="Avro single-object encoding, or Confluent's with a schema registry."
    )
    schema_registry_url: str | None = Field(
        None, description="Address of the schema registry, for the confluent wire format."
    )

    metrics_host: str = Field(
        "127.0.0.1", description="Address that --metrics-port listens on; 0.0.0.0 in a container."
    )
    runs_dir: Path = Field(
        Path("runs"), description="Folder for runs, logs, checkpoints and the local broker's data."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags (init) first, then the environment, then ``onibus.toml``."""
        environment = _Environment(settings_cls)
        return init_settings, environment, _TomlFile(settings_cls)

    def password(self) -> str | None:
        """The SASL password from ``sasl_password`` or, failing that, ``sasl_password_file``.

        Raises:
            OnibusError: the file cannot be read.
        """
        if self.sasl_password is not None:
            return self.sasl_password.get_secret_value()
        if self.sasl_password_file is None:
            return None
        try:
            return self.sasl_password_file.read_text(encoding="utf-8-sig").splitlines()[0]
        except (OSError, IndexError, UnicodeDecodeError) as error:
            raise OnibusError(
                f"cannot read the SASL password from {self.sasl_password_file}: {error}; "
                "write it there as the first line, or set ONIBUS_SASL_PASSWORD"
            ) from error


def environment_of(settings: Settings) -> dict[str, str]:
    """``settings`` as environment variables, from which a child process loads the same settings."""
    variables = {}
    for name, value in settings:
        if value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            variables[f"ONIBUS_{name.upper()}"] = plain
    return variables


def load_settings(**flags: Any) -> Settings:
    """The settings, with ``flags`` before all other sources; a flag that is None was not given.

    Raises:
        OnibusError: a value is not allowed, or ``onibus.toml`` cannot be read.
    """
    try:
        return Settings(**{k: v for k, v in flags.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise OnibusError(
            f"setting {name}: {first['msg']}; change the flag, ONIBUS_{name.upper()} or {SETTINGS_FILE}"
        ) from error
    except (ValueError, OSError) as error:  # a broken TOML file, or one in another encoding than UTF-8
        raise OnibusError(f"{SETTINGS_FILE} cannot be read: {error}; fix or remove it") from error
