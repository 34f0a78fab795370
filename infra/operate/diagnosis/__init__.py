"""Draws conclusions from what an installation knows: the story of an event, and checks."""
