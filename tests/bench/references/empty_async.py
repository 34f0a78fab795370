"""The framework's asynchronous function that does nothing: the limit for any HTTP function."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response


@functions_framework.aio.http
async def empty_async(_: Request) -> Response:
    """204, whatever was sent."""
    return Response(status_code=204)
