"""`python -m operate COMMAND`: commands for installations in Google Cloud."""

import os
import sys

from operate.command_line import COMMANDS, DEPLOYMENT_COMMANDS, parse_command, run_command
from operate.google.installation import open_installation

if __name__ == "__main__":
    chosen = parse_command(sys.argv[1:], "operate", (*COMMANDS, *DEPLOYMENT_COMMANDS))
    sys.exit(run_command(chosen, os.environ, open_installation))
