"""`python -m sandbox COMMAND`: runs an operator command on a local `make run`."""

import sys

from operate.command_line import COMMANDS, parse_command, run_command
from sandbox.environment import read_settings
from sandbox.installation import SandboxInstallation
from sandbox.proxies import never_use_for_loopback

if __name__ == "__main__":
    never_use_for_loopback()
    chosen = parse_command(sys.argv[1:], "sandbox", COMMANDS)
    sys.exit(run_command(chosen, read_settings(), SandboxInstallation))
