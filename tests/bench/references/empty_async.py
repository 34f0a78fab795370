"""An asynchronous function of the framework that does nothing: the limit of any function."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response


@functions_framework.aio.http
async def empty_async(_: Request) -> Response:
    """204 for every request."""
    return Response(status_code=204)
