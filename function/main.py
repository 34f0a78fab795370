"""Entry points. The framework imports this module and serves the function FUNCTION_TARGET names.

Only that function is composed: its settings are read here and now, so that a mistake stops the
process at start, and no entry point pays for what another imports. Connections, channels and
threads come with the first request, because the server forks between here and there.
"""

import gc
import os
import sys
from typing import TYPE_CHECKING

import logs
from settings import SettingsError, read_fetch_settings, read_receive_settings

if TYPE_CHECKING:
    import flask
    from starlette.requests import Request
    from starlette.responses import Response

    from reconciler import Summary
    from resolver import Answer

_target = os.environ.get("FUNCTION_TARGET")

try:
    if _target == "receive":
        # TRUSTED_PROXY_HOPS alone decides whom X-Forwarded-For is believed from; the server would
        # otherwise let a caller on loopback rewrite its own address.
        os.environ["FORWARDED_ALLOW_IPS"] = ""

        import functions_framework.aio

        from receiver import Receiver

        _receive_settings = read_receive_settings(os.environ)
        logs.configure(_receive_settings.log)
        _receiver = Receiver(_receive_settings)

        @functions_framework.aio.http
        async def receive(request: "Request") -> "Response":
            """Svix's webhooks: verify, publish, answer."""
            return await _receiver.handle(request)

    elif _target == "resolve":
        from resolver import Resolver

        _resolve_settings = read_fetch_settings("resolve", os.environ)
        logs.configure(_resolve_settings.log)
        _resolver = Resolver(_resolve_settings)

        def resolve(request: "flask.Request") -> "Answer":
            """Pub/Sub's push requests: fetch the items of an event, store them, acknowledge."""
            return _resolver.handle(request)

    elif _target == "reconcile":
        from reconciler import Reconciler

        _reconcile_settings = read_fetch_settings("reconcile", os.environ)
        logs.configure(_reconcile_settings.log)
        _reconciler = Reconciler(_reconcile_settings)

        def reconcile(request: "flask.Request") -> "Summary":
            """By schedule or by hand: store what no webhook told us of a window of time."""
            return _reconciler.handle(request)

except SettingsError as error:
    sys.exit(str(error))

# What has been imported stays for good. The collector need not look at it again and again, which
# halts every request that is under way (and writes to memory that the server shares by forking).
gc.freeze()
gc.set_threshold(10_000, 50, 50)
