"""A synchronous function of the framework that does nothing."""

import flask


def empty(_: flask.Request) -> tuple[str, int]:
    """204 for every request."""
    return "", 204
