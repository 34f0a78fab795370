"""The client of Dimmy's REST API."""
