"""Entry points. The framework imports this module and serves the function FUNCTION_TARGET names.

Only that function is composed: its settings are read at import, so that a mistake stops the process
at start, and no function imports what only another one needs. Connections, channels and threads are
created by the first request, because the server imports this module before it forks.
"""

import gc
import os
import sys
from typing import TYPE_CHECKING

from pipeline import logs, server
from pipeline.environment import SettingsError

if TYPE_CHECKING:
    import flask
    from cloudevents.http import CloudEvent
    from starlette.requests import Request
    from starlette.responses import Response

    from pipeline.archive import archiver
    from pipeline.reconcile import reconciler
    from pipeline.resolve import resolver

_target = os.environ.get("FUNCTION_TARGET")

try:
    if _target == "receive":
        import functions_framework.aio

        from pipeline.receive import http_protocol
        from pipeline.receive.receiver import Receiver
        from pipeline.receive.settings import read_receive_settings

        _receive_settings = read_receive_settings(os.environ)
        logs.configure(_receive_settings.log, _receive_settings.signing_secrets)
        server.ignore_forwarded_addresses()
        http_protocol.use()
        _receiver = Receiver(_receive_settings)

        @functions_framework.aio.http
        async def receive(request: "Request") -> "Response":
            """Verifies Svix's webhooks and publishes them to Pub/Sub."""
            return await _receiver.handle(request)

    elif _target == "resolve":
        from flask import Request as HttpRequest

        from pipeline.resolve.resolver import Resolver
        from pipeline.resolve.settings import read_resolve_settings

        _resolve_settings = read_resolve_settings(os.environ)
        logs.configure(_resolve_settings.log, [_resolve_settings.dimmy.api_key])
        _resolver = Resolver(_resolve_settings)

        def resolve(request: "flask.Request | CloudEvent") -> "resolver.Answer | None":
            """Fetches and stores the items of the events that Pub/Sub pushes."""
            if isinstance(request, HttpRequest):
                return _resolver.handle(request)
            _resolver.handle_cloud_event(request)  # with --signature-type cloudevent
            return None

    elif _target == "reconcile":
        from pipeline.reconcile.reconciler import Reconciler
        from pipeline.reconcile.settings import read_reconcile_settings

        _reconcile_settings = read_reconcile_settings(os.environ)
        logs.configure(_reconcile_settings.log, [_reconcile_settings.dimmy.api_key])
        _reconciler = Reconciler(_reconcile_settings)

        def reconcile(request: "flask.Request") -> "reconciler.Answer":
            """Stores the items of a window of time whose webhook never arrived."""
            return _reconciler.handle(request)

    elif _target == "archive":
        from pipeline.archive.archiver import Archiver
        from pipeline.archive.settings import read_archive_settings

        _archive_settings = read_archive_settings(os.environ)
        logs.configure(_archive_settings.log)
        _archiver = Archiver(_archive_settings)

        def archive(request: "flask.Request") -> "archiver.Answer":
            """Stores the photos of the items that the items topic announces."""
            return _archiver.handle(request)

    else:
        sys.exit(
            f"There is no function {_target or 'without a name'}: set FUNCTION_TARGET or --target"
            " to receive, resolve, reconcile or archive."
        )

    server.keep_idle_connections()
    server.keep_idle_workers()

except SettingsError as error:
    sys.exit(str(error))

# Modules and settings stay for the life of the process. Freezing them keeps the garbage collector
# from scanning them, which would pause every request and write to memory shared between processes.
gc.freeze()
gc.set_threshold(10_000, 50, 50)
