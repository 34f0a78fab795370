"""Resolves events: fetches their items, stores them and keeps a receipt of each event."""
