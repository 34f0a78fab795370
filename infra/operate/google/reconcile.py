"""The deployed `reconcile`, called as the person who is signed in to gcloud."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import requests

from operate.console import CommandError
from operate.google.gcloud import Gcloud
from operate.installation import ReconcileAnswer, request_parameters
from pipeline.reconcile.counts import COUNTS

_TRIES = 3  # without progress
_REQUEST_SECONDS = 1830  # a little longer than the function's timeout
_TOKEN_SECONDS = 1800  # an identity token is valid for an hour


class GoogleReconcile:
    """Implements `installation.Reconcile`."""

    longest: timedelta | None = timedelta(days=1)

    def __init__(self, gcloud: Gcloud, url: str) -> None:
        self.description = url
        self._gcloud = gcloud
        self._url = url
        self._token = ""
        self._token_until = 0.0

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
            response = self._post(start, end, fresh=fresh)
            fresh = False
            if response.status_code in {401, 403}:
                raise CommandError(
                    f"reconcile answers {response.status_code}: the account of gcloud needs"
                    " roles/run.invoker on it"
                )
            answer = _json(response)
            # A repeated request goes on where the one before it ended.
            counts.update({name: int(answer.get(name, 0)) for name in COUNTS})
            if response.status_code == 200:
                return ReconcileAnswer(counts, warning=str(answer.get("warning", "")))
            has_progressed = str(answer.get("reached", "")) > reached
            reached = str(answer.get("reached", ""))
            tries = 1 if has_progressed else tries + 1
            is_complete = answer.get("complete") is True
            if response.status_code == 400 or is_complete or tries == _TRIES:
                reason = f"{response.status_code} {answer.get('message', '')}"
                return ReconcileAnswer(counts, reason)

    def _post(self, start: datetime, end: datetime, *, fresh: bool) -> requests.Response:
        if time.monotonic() > self._token_until:
            self._token = self._gcloud.token("identity")
            self._token_until = time.monotonic() + _TOKEN_SECONDS
        try:
            return requests.post(
                self._url,
                params=request_parameters(start, end, fresh=fresh),
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=_REQUEST_SECONDS,
            )
        except OSError as error:
            raise CommandError(f"reconcile cannot be reached: {type(error).__name__}") from error


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except requests.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
