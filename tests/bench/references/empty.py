"""The framework's synchronous function that does nothing."""

import flask


def empty(_: flask.Request) -> tuple[str, int]:
    """204, whatever was sent."""
    return "", 204
