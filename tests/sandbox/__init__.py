"""Local replacements for Pub/Sub, Dimmy's API, the Svix sender and Cloud Storage.

`make demo`, `make run`, `make chaos` and the tests use them. The deployed code does not import
them.
"""
