"""The dead-letter subscription of a deployment, reached through gcloud."""

import json
from collections.abc import Mapping
from typing import Any

from operate.google.gcloud import Gcloud
from operate.google.monitoring import Monitoring
from pipeline.message import event_id_of

_PAUSE_SECONDS = 10.0
_PATIENCE_SECONDS = 900.0  # longer than an attempt, and than the pause between two attempts
_MAX_PULLED = 1000
_EMPTY_PULLS = 3  # in a row, that are taken for the end
_MAX_ON_COMMAND_LINE = 100


class GoogleDeadLetters:
    """Implements `installation.DeadLetters`. Raises CommandError where gcloud fails."""

    def __init__(
        self, gcloud: Gcloud, outputs: Mapping[str, Any], settings: Mapping[str, str]
    ) -> None:
        self.pause_seconds = float(settings.get("PAUSE_SECONDS") or _PAUSE_SECONDS)
        self.patience_seconds = float(settings.get("PATIENCE_SECONDS") or _PATIENCE_SECONDS)
        self._gcloud = gcloud
        self._subscription = outputs["dead_letter_subscription"]
        self._resolve_url = outputs["functions"]["resolve"]["url"]
        self._pusher = outputs["pusher"]

    def event_ids(self) -> set[str]:
        pulled: dict[str, dict[str, Any]] = {}
        try:
            # One pull returns some of the messages; it leases them, so the next returns others. It
            # may return none although messages wait.
            empty_pulls = 0
            while empty_pulls < _EMPTY_PULLS:
                new = {_message_id(one): one for one in self._pull()}
                empty_pulls = 0 if new.keys() - pulled.keys() else empty_pulls + 1
                pulled |= new
        finally:
            self._return([one["ackId"] for one in pulled.values()])
        return {
            event_id_of(one["message"].get("attributes") or {}, message_id)
            for message_id, one in pulled.items()
        }

    def push(self) -> None:
        self._modify_push_config(
            f"--push-endpoint={self._resolve_url}",
            f"--push-auth-service-account={self._pusher}",
            f"--push-auth-token-audience={self._resolve_url}",
        )

    def hold(self) -> None:
        self._modify_push_config("--push-endpoint=")

    def count(self) -> int | None:
        monitoring = Monitoring(self._gcloud)
        counted = monitoring.of_subscription("num_undelivered_messages", self._subscription)
        return None if counted is None else round(counted)

    def _pull(self) -> list[dict[str, Any]]:
        printed = self._gcloud.run(
            "pubsub",
            "subscriptions",
            "pull",
            self._subscription,
            f"--limit={_MAX_PULLED}",
            "--format=json",
        )
        messages: list[dict[str, Any]] = json.loads(printed or "[]")
        return messages

    def _return(self, ack_ids: list[str]) -> None:
        """End the lease of pulled messages."""
        for start in range(0, len(ack_ids), _MAX_ON_COMMAND_LINE):
            self._gcloud.run(
                "pubsub",
                "subscriptions",
                "modify-message-ack-deadline",
                self._subscription,
                f"--ack-ids={','.join(ack_ids[start : start + _MAX_ON_COMMAND_LINE])}",
                "--ack-deadline=0",
            )

    def _modify_push_config(self, *config: str) -> None:
        self._gcloud.run(
            "pubsub", "subscriptions", "modify-push-config", self._subscription, *config
        )


def _message_id(pulled: Mapping[str, Any]) -> str:
    return str(pulled["message"]["messageId"])
