"""Settings: precedence, what is refused, and that secrets stay secret."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import admin, security
from onibus.infra.process.logs import set_up_logging
from onibus.infra.settings import Settings, environment_of, load_settings
from tests.command import run_onibus, the_one_line
from tests.ports import free_port

SECRET = "correct-horse-battery-staple"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_flags_win_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().partitions == 16
    (tmp_path / "onibus.toml").write_text("partitions = 2\n")
    assert load_settings().partitions == 2
    monkeypatch.setenv("ONIBUS_PARTITIONS", "3")
    assert load_settings().partitions == 3
    assert load_settings(partitions=4).partitions == 4
    assert load_settings(partitions=None).partitions == 3, "None means that the flag was not given"


@pytest.mark.integration
def test_the_command_gives_flags_the_same_precedence(tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("file", "environment", "flag")}
    (tmp_path / "onibus.toml").write_text(f'bootstrap_servers = "127.0.0.1:x{ports["file"]}"\n')
    environment = {"ONIBUS_BOOTSTRAP_SERVERS": f"127.0.0.1:x{ports['environment']}"}
    flags = ["--bootstrap-servers", f"127.0.0.1:x{ports['flag']}"]

    def address(*arguments: str, environment: dict[str, str] | None = None) -> str:
        result = run_onibus("topics", "check", *arguments, folder=tmp_path, environment=environment)
        return the_one_line(result)

    assert f"x{ports['file']}" in address()
    assert f"x{ports['environment']}" in address(environment=environment)
    assert f"x{ports['flag']}" in address(*flags, environment=environment)


def test_a_child_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        bootstrap_servers="a:1,b:2",
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="me",
        sasl_password=SECRET,
        ssl_check_hostname=False,
        partitions=3,
        runs_dir=Path("elsewhere"),
    )
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert load_settings().password() == SECRET


@pytest.mark.integration
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("partitions = 0\n", "setting partitions: "),
        ("partitons = 4\n", "setting partitons: "),
        ("partitions = \n", "onibus.toml cannot be read"),
        ('security_protocol = "TLS"\n', "setting security_protocol: "),
    ],
)
def test_a_bad_settings_file_is_one_line(content: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "onibus.toml").write_text(content)
    assert expected in the_one_line(run_onibus("topics", "check", folder=tmp_path))


def test_a_byte_order_mark_and_empty_variables_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "onibus.toml").write_bytes(b"\xef\xbb\xbfpartitions = 5\r\n")
    password = tmp_path / "password"
    password.write_bytes(b"\xef\xbb\xbfhidden\r\n")
    for name in Settings.model_fields:
        monkeypatch.setenv(f"ONIBUS_{name.upper()}", "")
    settings = load_settings(sasl_password_file=password)
    assert settings.password() == "hidden"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert settings == load_settings(sasl_password_file=password, topic_prefix="")
    assert settings.partitions == 5


def test_an_empty_prefix_reaches_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(topic_prefix="")
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


@pytest.mark.parametrize(
    "content", [b"runs_dir = 'gr\xf6\xdfe'\n", b"\xff\xfep\x00a\x00r\x00"], ids=["latin-1", "UTF-16"]
)
def test_settings_in_another_encoding_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "onibus.toml").write_bytes(content)
    line = the_one_line(run_onibus("topics", "check", folder=tmp_path))
    assert "onibus.toml cannot be read" in line
    assert "fix or remove it" in line


def test_the_password_comes_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\nsecond line\n")
    assert load_settings().password() is None
    assert load_settings(sasl_password_file=file).password() == SECRET
    monkeypatch.setenv("ONIBUS_SASL_PASSWORD", "from the environment")
    assert load_settings(sasl_password_file=file).password() == "from the environment"
    monkeypatch.delenv("ONIBUS_SASL_PASSWORD")
    with pytest.raises(OnibusError, match="cannot read the SASL password from"):
        load_settings(sasl_password_file=tmp_path / "missing").password()


@pytest.mark.integration
def test_there_is_no_flag_for_the_password(tmp_path: Path) -> None:
    shown = run_onibus("topics", "check", "--help", folder=tmp_path)
    assert "--sasl-username" in shown.stdout
    assert "--sasl-password-file" in shown.stdout
    result = run_onibus("topics", "check", "--sasl-password", SECRET, folder=tmp_path)
    assert result.returncode == 2
    assert "No such option" in result.stderr


def test_no_text_of_the_settings_or_of_a_failure_shows_the_password(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(
        bootstrap_servers=f"127.0.0.1:{free_port()}",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="me",
        sasl_password=SECRET,
    )
    before = logging.getLogger().handlers[:], logging.getLogger("kafka").level
    try:
        set_up_logging(verbose=True)  # kafka-python would log its whole configuration
        with pytest.raises(OnibusError) as raised:
            admin(settings, bootstrap_timeout_ms=500)
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger("kafka").setLevel(level)
        logging.getLogger().setLevel(logging.WARNING)
        logging.captureWarnings(False)
    said = capfd.readouterr()
    assert "bootstrap" in said.err.lower(), "the client did log"
    for text in (
        said.out,
        said.err,
        str(raised.value),
        repr(settings),
        str(settings),
        settings.model_dump_json(),
    ):
        assert SECRET not in text


@pytest.mark.parametrize("missing", ["sasl_mechanism", "sasl_username", "sasl_password"])
def test_a_login_without_all_of_its_settings_is_refused(missing: str) -> None:
    given = {"sasl_mechanism": "PLAIN", "sasl_username": "me", "sasl_password": SECRET}
    del given[missing]
    with pytest.raises(OnibusError, match=f"needs the setting {missing}; set ONIBUS_{missing.upper()}"):
        security(load_settings(security_protocol="SASL_SSL", **given))


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
