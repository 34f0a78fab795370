"""What all commands have in common: how they are called, and what they call.

One of them: .venv/bin/pytest tests/operate/test_command_line.py -k make
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from operate.command_line import COMMANDS
from operate.google.deployment import ROOT
from sandbox.stack import new_secret
from support.operator import (
    API_KEY,
    Endpoint,
    Operator,
    as_command_string,
    dead_letters,
    receipts,
)
from support.programs import needs

ALL_COMMANDS = (
    "bootstrap",
    "secrets",
    "deploy",
    "plan",
    "status",
    "logs",
    "trace",
    "doctor",
    "redrive",
    "destroy",
)


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_every_command_says_which_installation_it_misses(operator: Operator, command: str) -> None:
    assert operator.run(command, ENV="", PROJECT="") == 2

    assert "ENV is missing: dev, prod, staging" in operator.printed
    assert "PROJECT is missing" in operator.printed
    assert operator.calls == []


def test_an_environment_that_there_is_not_and_a_project_that_is_none(operator: Operator) -> None:
    assert operator.run("deploy", ENV="../prod", PROJECT="My Project") == 2

    assert "ENV=../prod is none of dev, prod, staging" in operator.printed
    assert "PROJECT=My Project is no project's id" in operator.printed


@pytest.mark.parametrize("program", ["gcloud", "terraform"])
def test_a_program_that_is_not_installed_is_named(operator: Operator, program: str) -> None:
    (operator.programs / program).unlink()

    assert operator.run("deploy", PATH=str(operator.programs)) == 2

    assert f"{program} is not installed: https://" in operator.printed


@pytest.mark.parametrize(
    "command",
    [
        "bootstrap",
        "secrets",
        "plan",
        "deploy",
        "status",
        "logs",
        "trace",
        "doctor",
        "backfill",
        "redrive",
        "destroy",
        "package",
    ],
)
def test_make_has_each_command_and_passes_on_what_it_is_told(command: str) -> None:
    """The recipe runs the command, which gets the variables of the command line."""
    made = ["make", "--dry-run", command, "ENV=dev"]
    recipe = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = {"ENV": "dev", "PROJECT": "warehouse-1", "SINCE": "2026-11-01", "EVENT": "msg_1"}
    probe = ["make", "--eval=probe: ; @env", "probe", *(f"{k}={v}" for k, v in told.items())]
    exported = subprocess.run(probe, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert recipe.splitlines()[-1].endswith(f"-m operate {command}")
    assert {f"{name}={value}" for name, value in told.items()} <= set(exported.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_make_takes_the_sandbox_where_no_environment_is_named(command: str) -> None:
    def recipe(*settings: str) -> str:
        made = ["make", "--dry-run", command, *settings]
        return subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert f"-m sandbox {command}" in recipe()
    assert f"-m operate {command}" in recipe("ENV=dev")


@needs("gcloud")
def test_gcloud_itself_understands_every_call(
    operator: Operator, endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """The stand-in takes anything; gcloud can tell, offline, whether it would."""
    missing = ("buckets describe", "ERROR: 404: not found", 1)
    operator.answer(missing, *dead_letters("msg_1"), *receipts(msg_1="done"))
    monitoring = endpoint((200, {}))
    for command in ("bootstrap", "deploy", "status", "logs", "redrive"):
        operator.run(
            command,
            YES="1",
            PAUSE_SECONDS="0.1",
            CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url,
        )
    operator.run("secrets", given=f"DIMMY_API_KEY={API_KEY}\nSIGNING_SECRETS={new_secret()}\n")
    operator.run("backfill", YES="1", SINCE="2026-11-01", UNTIL="2026-11-02")
    calls = sorted({as_command_string(c) for c in operator.calls if c[0] == "gcloud"})
    commands = [{"command_string": call} for call in calls]
    (tmp_path / "calls.json").write_text(json.dumps(commands))

    linted = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={tmp_path}/calls.json"],
        env=os.environ | {"CLOUDSDK_CONFIG": str(tmp_path / "config")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(calls) >= 14
    verdicts = json.loads(linted.stdout)
    assert len(verdicts) == len(calls)
    refused = {v["command_string"]: v["error_message"] for v in verdicts if not v["success"]}
    assert refused == {}
