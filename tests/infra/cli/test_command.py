"""What a user can put right is one line on stderr and exit code 2, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import run_onibus, the_one_line
from tests.ports import free_port

pytestmark = pytest.mark.integration

MISTAKES = {
    "nobody listens": (
        ["--bootstrap-servers", "127.0.0.1:{free}"],
        {},
        "no Kafka broker at 127.0.0.1:{free}",
    ),
    "unknown host": (["--bootstrap-servers", "no-such-host.invalid:1"], {}, "host no-such-host.invalid"),
    "no port": (["--bootstrap-servers", "somewhere"], {}, "'somewhere' is not host:port"),
    "missing CA": (["--security-protocol", "SSL", "--ssl-cafile", "no.pem"], {}, "there is no file no.pem"),
    "no user": (["--security-protocol", "SASL_SSL", "--sasl-mechanism", "PLAIN"], {}, "ONIBUS_SASL_USERNAME"),
    "bad variable": ([], {"ONIBUS_PARTITIONS": "many"}, "ONIBUS_PARTITIONS"),
    "no mechanism": (["--security-protocol", "SASL_SSL"], {}, "ONIBUS_SASL_MECHANISM"),
}


@pytest.mark.parametrize(("flags", "environment", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_ends_with_one_line(
    flags: list[str], environment: dict[str, str], expected: str, tmp_path: Path
) -> None:
    free = free_port()
    result = run_onibus(
        "topics",
        "check",
        *(flag.format(free=free) for flag in flags),
        folder=tmp_path,
        environment=environment,
    )
    assert expected.format(free=free) in the_one_line(result)


def test_an_unknown_command_or_flag_ends_with_exit_code_2(tmp_path: Path) -> None:
    for arguments in (
        ["no-such-command"],
        ["topics", "check", "--no-such-flag"],
        ["broker", "start", "--port", "x"],
    ):
        result = run_onibus(*arguments, folder=tmp_path)
        assert result.returncode == 2, arguments
        assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["broker", "--help"], ["topics", "--help"]])
def test_help_is_shown(arguments: list[str], tmp_path: Path) -> None:
    result = run_onibus(*arguments, folder=tmp_path)
    assert result.returncode == 0
    assert "Usage" in result.stdout


def test_a_stand_in_whose_heads_do_not_fit_is_refused_before_anything_is_played(tmp_path: Path) -> None:
    result = run_onibus("tiny-llama", "make", "--width", "100", folder=tmp_path)
    assert "--width 100 is no multiple of 32" in the_one_line(result)
    assert not list(tmp_path.rglob("*.captions.json"))
