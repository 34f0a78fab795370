"""Operates an installation: deploys it, shows its status, diagnoses problems.

`commands` has a module for each command. Those that look at an installation work with anything that
implements `installation.Installation`: one in Google Cloud (`google`), or the sandbox, which passes
itself to `command_line`. `diagnosis` draws conclusions from the data of an installation; `view`
is the page of stored items.
"""
