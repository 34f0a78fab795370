"""Draws conclusions from the data of an installation: status, checks, the history of an event."""
