"""Webhooks that `receive` has refused because no signature matches: the commonest mistake.

The signing secret is then that of another endpoint. `make doctor` signs with the secret that
`receive` has, so its own event says nothing about that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from operate.installation import Installation, LogLine, LogQuery
from operate.signed_webhooks import sender_of
from operate.times import shown

_OUTCOME = "signature_mismatch"
_MAX_LINES = 200


@dataclass(frozen=True)
class Refusals:
    """Those of the last day, and when the last webhook of the sender was accepted."""

    lines: Sequence[LogLine]
    accepted_at: datetime | None

    @classmethod
    def read(cls, installation: Installation) -> "Refusals":
        """The refusals in the log."""
        refused = _of_the_sender(installation, _OUTCOME)
        if not refused:
            return cls((), None)
        accepted = _of_the_sender(installation, "published")
        return cls(refused, max((line.time for line in accepted), default=None))

    @property
    def go_on(self) -> bool:
        """Whether no webhook was accepted since the last refusal."""
        return bool(self.lines) and not (
            self.accepted_at and self.accepted_at > self.lines[-1].time
        )

    def __str__(self) -> str:
        count = f"{_MAX_LINES} or more" if len(self.lines) == _MAX_LINES else str(len(self.lines))
        last = shown(self.lines[-1].time)
        return f"{count} in the last day, {_OUTCOME}, the last at {last}"


def _of_the_sender(installation: Installation, outcome: str) -> list[LogLine]:
    """The lines of webhooks with this outcome, oldest first, without those of our commands."""
    lines = installation.log_lines(LogQuery("1d", _MAX_LINES, message=f"webhook {outcome}"))
    return [line for line in lines if not sender_of(str(line.fields.get("event_id", "")))]
