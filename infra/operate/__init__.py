"""Operates an installation: deploys it, tells how it is doing, finds out what is wrong.

`commands` has a module for each command. Those that look at an installation work with anything that
implements `installation.Installation`: one in Google Cloud (`google`), or the sandbox, which passes
itself to `command_line`. `diagnosis` draws conclusions from what an installation knows; `view` is
the page of stored items.
"""
