"""The command line: `python -m operate COMMAND`. Arguments come as environment variables."""

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from operate.console import run
from operate.installation import Installation

# Commands for any installation, and those that deploy one to Google Cloud. Each has a module of its
# name in `commands`, which is imported when it is needed.
COMMANDS = (
    "backfill",
    "discard",
    "doctor",
    "logs",
    "redrive",
    "replay",
    "republish",
    "send",
    "status",
    "trace",
    "verify",
    "view",
)
DEPLOYMENT_COMMANDS = (
    "bootstrap",
    "deploy",
    "destroy",
    "package",
    "plan",
    "retire",
    "rotate",
    "secrets",
    "unlock",
)

OpenInstallation = Callable[[Mapping[str, str]], Installation]


def run_command(name: str, settings: Mapping[str, str], open_installation: OpenInstallation) -> int:
    """Run a command of either kind; return its exit status."""
    command = importlib.import_module(f"operate.commands.{name}")

    def run_it(console: Console) -> int:
        if name in DEPLOYMENT_COMMANDS:
            status: int = command.run(settings, console)
        else:
            status = command.run(open_installation(settings), settings, console)
        return status

    return run(run_it)


def parse_command(arguments: Sequence[str], program: str, commands: Sequence[str]) -> str:
    """The command that is named on the command line; exits with 2 where none is."""
    parser = argparse.ArgumentParser(
        prog=program, description="`make help` describes the commands and their variables."
    )
    parser.add_argument("command", choices=sorted(commands))
    return str(parser.parse_args(arguments).command)
