"""The deployed `reconcile`, called as the person who is signed in to gcloud."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

import requests

from operate.console import CommandError
from operate.google.gcloud import Gcloud
from operate.installation import ReconcileAnswer, request_parameters
from pipeline.reconcile.counts import COUNTS

_TRIES = 3  # without progress
_REQUEST_SECONDS = 1830  # a little longer than the function's timeout
_TOKEN_SECONDS = 1800  # an identity token is valid for an hour


class Caller(Protocol):
    """Calls the function."""

    description: str

    def call(self, parameters: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        """Send one request; return the status and the answer.

        Raises:
            CommandError: the function cannot be called.
        """


class GoogleReconcile:
    """Implements `installation.Reconcile`."""

    longest: timedelta | None = timedelta(days=1)

    def __init__(self, caller: Caller) -> None:
        self.description = caller.description
        self._caller = caller

    def window(
        self,
        start: datetime,
        end: datetime,
        _progress: Callable[[datetime, int], None],
        *,
        fresh: bool = False,
    ) -> ReconcileAnswer:
        counts: Counter[str] = Counter()
        reached = ""
        tries = 0
        while True:
            status, answer = self._caller.call(request_parameters(start, end, fresh=fresh))
            fresh = False
            # A repeated request goes on where the one before it ended.
            counts.update({name: int(answer.get(name, 0)) for name in COUNTS})
            if status == 200:
                return ReconcileAnswer(counts, warning=str(answer.get("warning", "")))
            has_progressed = str(answer.get("reached", "")) > reached
            reached = str(answer.get("reached", ""))
            tries = 1 if has_progressed else tries + 1
            is_complete = answer.get("complete") is True
            if status == 400 or is_complete or tries == _TRIES:
                return ReconcileAnswer(counts, f"{status} {answer.get('message', '')}")


class HttpCaller:
    """Calls the function at its URL."""

    def __init__(self, gcloud: Gcloud, url: str) -> None:
        self.description = url
        self._gcloud = gcloud
        self._url = url
        self._token = ""
        self._token_until = 0.0

    def call(self, parameters: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        if time.monotonic() > self._token_until:
            self._token = self._gcloud.identity_token(self._url)
            self._token_until = time.monotonic() + _TOKEN_SECONDS
        try:
            response = requests.post(
                self._url,
                params=dict(parameters),
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=_REQUEST_SECONDS,
            )
        except OSError as error:
            raise CommandError(f"reconcile cannot be reached: {type(error).__name__}") from error
        if response.status_code in {401, 403}:
            raise CommandError(
                f"reconcile answers {response.status_code}: the account of gcloud needs"
                " roles/run.invoker on it"
            )
        return response.status_code, _json(response)


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except requests.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
