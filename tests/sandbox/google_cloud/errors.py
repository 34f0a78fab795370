"""Errors of Google's APIs (https://cloud.google.com/apis/design/errors)."""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    501: "UNIMPLEMENTED",
}
# Google's provider recognises it by this reason, which all APIs give.
SERVICE_DISABLED = "accessNotConfigured"
# What the older APIs (Compute Engine, Cloud Storage, BigQuery) give in place of a status.
_REASONS = {
    400: "invalid",
    401: "required",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    412: "conditionNotMet",
}


class ApiError(Exception):
    """A request is refused. `status` and `reason` default to those of the HTTP status."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        status: str = "",
        reason: str = "",
        details: Sequence[Json] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or _STATUS.get(code, "INTERNAL")
        self.reason = reason or _REASONS.get(code, "backendError")
        self.details = list(details)

    def body(self, *, older: bool) -> Json:
        """The answer in the format of newer or of older APIs."""
        error: Json = {"code": self.code, "message": self.message}
        if older or self.reason == SERVICE_DISABLED:
            domain = "usageLimits" if self.reason == SERVICE_DISABLED else "global"
            described = {"message": self.message, "domain": domain, "reason": self.reason}
            error["errors"] = [described]
        if self.details or not older:
            error["status"] = self.status
        if self.details:
            error["details"] = self.details
        return {"error": error}


def failed_precondition(message: str) -> ApiError:
    """400 FAILED_PRECONDITION."""
    return ApiError(400, message, status="FAILED_PRECONDITION")


def service_disabled(service: str, title: str, project_number: str) -> ApiError:
    """An API is not enabled, or not yet known to be everywhere."""
    url = f"https://console.developers.google.com/apis/api/{service}/overview?project={project_number}"
    message = (
        f"{title} has not been used in project {project_number} before or it is disabled. Enable it"
        f" by visiting {url} then retry. If you enabled this API recently, wait a few minutes for"
        " the action to propagate to our systems and retry."
    )
    consumer = f"projects/{project_number}"
    metadata = {
        "activationUrl": url,
        "consumer": consumer,
        "containerInfo": project_number,
        "service": service,
        "serviceTitle": title,
    }
    details: list[Json] = [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "SERVICE_DISABLED",
            "domain": "googleapis.com",
            "metadata": metadata,
        },
        {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US"}
        | {"message": message},
        {
            "@type": "type.googleapis.com/google.rpc.Help",
            "links": [{"description": "Google developers console API activation", "url": url}],
        },
    ]
    return ApiError(403, message, reason=SERVICE_DISABLED, details=details)


def unauthenticated() -> ApiError:
    """A request without a token."""
    return ApiError(
        401,
        "Request is missing required authentication credential. Expected OAuth 2 access token,"
        " login cookie or other valid authentication credential. See"
        " https://developers.google.com/identity/sign-in/web/devconsole-project.",
        details=[
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "CREDENTIALS_MISSING",
                "domain": "googleapis.com",
            }
        ],
    )
