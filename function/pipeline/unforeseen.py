"""Exceptions that no rule foresees.

None of them may end in a lost event or an attempt without a reason. Each becomes the state of what
failed, 503, and an ERROR line with its traceback.
"""

from typing import Any

from pipeline.logs import log, stack_trace

PREFIX = "internal error:"


def state_after(error: Exception) -> str:
    """The state of what failed. The text of the exception is in the log only."""
    return f"{PREFIX} {type(error).__name__}"


class UnforeseenErrors:
    """Those of one attempt, which may come from thousands of items. Safe to share by threads."""

    def __init__(self) -> None:
        self._first: dict[str, Exception] = {}

    def log_item(self, error: Exception, **fields: Any) -> str:
        """Log the state of an item, with a traceback where the state is a new one; return it."""
        state = state_after(error)
        if self._first.setdefault(state, error) is error:
            log("ERROR", "item", state=state, **fields, **stack_trace(error))
        else:
            log("WARNING", "item", state=state, **fields)
        return state
