"""Common to all commands: their settings, their make targets, and their calls of gcloud.

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
def test_every_command_reports_missing_env_and_project(operator: Operator, command: str) -> None:
    assert operator.run(command, ENV="", PROJECT="") == 2

    assert "ENV is missing: dev, prod, staging" in operator.printed
    assert "PROJECT is missing" in operator.printed
    assert operator.calls == []


def test_an_unknown_environment_and_an_invalid_project_are_refused(operator: Operator) -> None:
    assert operator.run("deploy", ENV="../prod", PROJECT="My Project") == 2

    assert "ENV=../prod is none of dev, prod, staging" in operator.printed
    assert "PROJECT=My Project is not a project's id" in operator.printed


@pytest.mark.parametrize("program", ["gcloud", "terraform"])
def test_a_missing_program_is_named(operator: Operator, program: str) -> None:
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
def test_make_runs_each_command_and_exports_its_variables(command: str) -> None:
    """The command gets the variables of make's command line as environment variables."""
    dry_run = ["make", "--dry-run", command, "ENV=dev"]
    recipe = subprocess.run(dry_run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    variables = {"ENV": "dev", "PROJECT": "warehouse-1", "SINCE": "2026-11-01", "EVENT": "msg_1"}
    probe = ["make", "--eval=probe: ; @env", "probe", *(f"{k}={v}" for k, v in variables.items())]
    exported = subprocess.run(probe, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert recipe.splitlines()[-1].endswith(f"-m operate {command}")
    assert {f"{name}={value}" for name, value in variables.items()} <= set(exported.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_make_uses_the_sandbox_without_env(command: str) -> None:
    def recipe(*settings: str) -> str:
        dry_run = ["make", "--dry-run", command, *settings]
        done = subprocess.run(dry_run, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout

    assert f"-m sandbox {command}" in recipe()
    assert f"-m operate {command}" in recipe("ENV=dev")
    # It says that ENV is missing, where the sandbox would look as if all were well.
    assert f"-m operate {command}" in recipe("PROJECT=warehouse-1")


@needs("gcloud")
def test_gcloud_accepts_every_call(
    operator: Operator, endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """The recording program accepts anything, but gcloud's offline linter checks each call."""
    missing = ("buckets describe", "ERROR: 404: not found", 1)
    operator.set_answers(missing, *dead_letters("msg_1"), *receipts(msg_1="done"))
    monitoring = endpoint((200, {}))
    for command in ("bootstrap", "deploy", "status", "logs", "redrive"):
        operator.run(
            command,
            YES="1",
            PAUSE_SECONDS="0.1",
            CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url,
        )
    operator.run("secrets", stdin=f"DIMMY_API_KEY={API_KEY}\nSIGNING_SECRETS={new_secret()}\n")
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
    results = json.loads(linted.stdout)
    assert len(results) == len(calls)
    refused = {v["command_string"]: v["error_message"] for v in results if not v["success"]}
    assert refused == {}
