"""The answer to a request, with the one log line that the request ends in.

Svix shows the body of an answer in its dashboard, so a refusal says there what to check. What only
an operator should see is in the log line.
"""

import time
from typing import Any

from starlette.responses import JSONResponse, Response

from pipeline.logs import Severity, log
from pipeline.receive.verification import UnauthenticRequestError, VerificationError

RETRY_AFTER_SECONDS = 5


class Answer:
    """A response, its outcome in one word, and the fields of its log line."""

    def __init__(self, response: Response, outcome: str, fields: dict[str, Any]) -> None:
        self.response = response
        self._outcome = outcome
        self._fields = fields

    def log(self, started: float, **fields: object) -> None:
        """Write the log line. `started` is the request's, of `time.perf_counter`."""
        status = self.response.status_code
        severity: Severity = "INFO" if status < 400 else "WARNING" if status < 500 else "ERROR"
        log(
            severity,
            f"webhook {self._outcome}",
            outcome=self._outcome,
            status=status,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
            **fields,
            **self._fields,
        )


def published(**fields: Any) -> Answer:
    """204: Pub/Sub has confirmed the event."""
    return Answer(Response(status_code=204), "published", fields)


def refused(status: int, code: str, message: str, **fields: Any) -> Answer:
    """A refusal that the sender can do something about."""
    response = JSONResponse({"error": code, "message": message}, status_code=status)
    return Answer(response, code, fields)


def unverified(error: VerificationError, **fields: Any) -> Answer:
    """401 where a signature or a timestamp is wrong, 400 where the request is malformed."""
    status = 401 if isinstance(error, UnauthenticRequestError) else 400
    return refused(status, error.code, str(error), **fields)


def unavailable(reason: str, **fields: Any) -> Answer:
    """503, after which the sender tries again. The reason goes to our log only."""
    response = JSONResponse(
        {
            "error": "unavailable",
            "message": "The receiver could not store the event at this moment. Nothing is lost: it"
            " will be accepted when it is sent again. The receiver's log has the reason.",
        },
        status_code=503,
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
    return Answer(response, "unavailable", fields | {"reason": reason})
