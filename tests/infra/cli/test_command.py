"""What a user can fix is one line on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import re
import socket
from functools import partial
from pathlib import Path

import pytest

from onibus.infra.broker import RunningBroker
from tests.command import REPOSITORY, run_onibus, the_one_line
from tests.ports import free_port

pytestmark = pytest.mark.integration

run_started = partial(run_onibus, started=True)
"""As users start it; what says nothing of the start may be a fork."""

MISTAKES = {
    "nothing listens": (
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
    result = run_started(
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
        result = run_started(*arguments, folder=tmp_path)
        assert result.returncode == 2, arguments
        assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["broker", "--help"], ["topics", "--help"]])
def test_help_is_shown(arguments: list[str], tmp_path: Path) -> None:
    result = run_started(*arguments, folder=tmp_path)
    assert result.returncode == 0
    assert "Usage" in result.stdout


LOCALES = {
    "C": {"LC_ALL": "C"},
    "POSIX": {"LC_ALL": "POSIX"},
    "ASCII": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "one that is not installed": {"LC_ALL": "tlh_KX.ISO-8859-1"},
    "Latin-1 output": {"PYTHONIOENCODING": "latin-1"},
}


@pytest.mark.slow
@pytest.mark.parametrize("environment", LOCALES.values(), ids=LOCALES.keys())
def test_every_locale_works(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "onibus.toml").write_text('runs_dir = "größe-日本"', encoding="utf-8")
    shown = run_started("access", "roles", folder=tmp_path, environment=environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert run_started("--help", folder=tmp_path, environment=environment).returncode == 0
    done = run_started("broker", "status", "--json", folder=tmp_path, environment=environment)
    line = the_one_line(done)
    assert "größe-日本" in line or r"gr\xf6\xdfe" in line or r"-\u65e5\u672c" in line
    spec = tmp_path / "größe.toml"
    with_mark = b"\xef\xbb\xbf" + (REPOSITORY / "consumers" / "specs" / "builtin" / "goals.toml").read_bytes()
    spec.write_bytes(with_mark)
    nowhere = ["--bootstrap-servers", "no-such-host.invalid:1"]  # an unknown host is reported at once
    answer = run_started("annotate", "--spec", spec, *nowhere, folder=tmp_path, environment=environment)
    assert "host no-such-host.invalid" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_version_names_the_commit_of_a_checkout(tmp_path: Path) -> None:
    shown = run_started("--version", folder=tmp_path)
    assert shown.returncode == 0
    assert re.fullmatch(r"onibus \d+\.\d+\.\d+\S*( \(commit [0-9a-f]{12}(, changed)?\))?\n", shown.stdout)
    assert ("commit" in shown.stdout) == (REPOSITORY / ".git").exists()


def test_a_demo_whose_port_is_taken_advises_its_own_flag(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = the_one_line(run_onibus("demo", "--broker-port", port, folder=tmp_path))
    assert f"port {port} on 127.0.0.1 is in use by another program; choose another with --broker-port" in line


def test_what_code_of_the_user_s_left_open_is_written_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("held = open('held', 'w')\nheld.write('all')\n")
    assert run_started("annotate", "--llm", "mine:Judge", "--spec", "goals", folder=tmp_path).returncode == 2
    assert (tmp_path / "held").read_text() == "all"


def test_a_port_that_a_broker_of_ours_has_is_said_with_its_folder(
    broker: RunningBroker, tmp_path: Path
) -> None:
    port = broker.nodes[0].port
    line = the_one_line(run_onibus("broker", "start", "--port", port, folder=tmp_path))
    stop = f"onibus broker stop --data-dir {broker.data_dir}"
    assert f"is in use by the broker in {broker.data_dir}; use it, stop it with: {stop}, or choose" in line


@pytest.mark.parametrize("arguments", [(), ("make", "--width", "100"), ("captions",)])
def test_the_command_that_is_gone_names_what_took_its_place(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    assert "onibus judge-model make" in the_one_line(run_onibus("tiny-llama", *arguments, folder=tmp_path))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--llm", "gpt4"], "--llm gpt4: there is no such judge"),
        (["--llm", "openai", "--model", "m"], "--llm openai needs --base-url"),
        (["--reward", "motif"], "--reward motif needs a model"),
    ],
)
def test_a_demo_starts_nothing_with_options_that_cannot_be(
    tmp_path: Path, flags: list[str], said: str
) -> None:
    assert said in the_one_line(run_onibus("demo", *flags, folder=tmp_path))
    assert not list(tmp_path.glob("runs/*"))


def test_a_demo_needs_no_keyword_rules_where_a_model_judges(tmp_path: Path) -> None:
    rules = (Path(__file__).parents[3] / "consumers/specs/builtin/keys-and-doors.toml").read_text("utf-8")
    (tmp_path / "own.toml").write_text(rules[: rules.index("[rules")], "utf-8")
    flags = ["--spec", "own.toml", "--llm", "openai"]
    assert "--llm openai needs --model" in the_one_line(run_onibus("demo", *flags, folder=tmp_path))
    assert "has no [rules] for --llm rules" in the_one_line(
        run_onibus("demo", "--spec", "own.toml", folder=tmp_path)
    )
