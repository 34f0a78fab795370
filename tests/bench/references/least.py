"""A minimal receiver, without publishing: it reads, verifies and writes one log line."""

import json
import os
import time

import functions_framework.aio
from standardwebhooks.webhooks import Webhook
from starlette.requests import Request
from starlette.responses import Response

_webhook = Webhook(os.environ["SIGNING_SECRETS"])
_SIGNED = (b"svix-id", b"svix-timestamp", b"svix-signature")


@functions_framework.aio.http
async def least(request: Request) -> Response:
    """204, or an exception if the signature is wrong."""
    started = time.perf_counter()
    body = await request.body()
    headers = dict(request.headers.raw)
    signed = {name.decode().replace("svix", "webhook"): headers[name].decode() for name in _SIGNED}
    _webhook.verify(body, signed, json_parse=False)
    line = {
        "severity": "INFO",
        "message": "webhook published",
        "outcome": "published",
        "status": 204,
        "milliseconds": round((time.perf_counter() - started) * 1000, 1),
        "event_id": signed["webhook-id"],
        "bytes": len(body),
    }
    os.write(1, json.dumps(line).encode() + b"\n")
    return Response(status_code=204)
