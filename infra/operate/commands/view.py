"""`make view`: a page of the stored items in a browser, which follows what is stored.

LIMIT is how many items it reads, the newest (10,000); VIEW_PORT is the port of the page (8090).
Exit status 0 after Ctrl-C; 2 when it could not begin.
"""

import asyncio
import os
import signal
import sys
import webbrowser
from collections.abc import Mapping

from aiohttp import web
from rich.console import Console

from operate.commands.arguments import read_number
from operate.console import print_text
from operate.installation import Installation
from operate.ports import read_port
from operate.view.site import Site, open_site

_PORT = "8090"
_ITEMS = 10_000
_MAX_ITEMS = 1_000_000


def run(installation: Installation, settings: Mapping[str, str], console: Console) -> int:
    """Serve the page until Ctrl-C."""
    port = read_port(settings, "VIEW_PORT", _PORT)
    items = read_number(settings, "LIMIT", _ITEMS, _MAX_ITEMS)
    site = open_site(installation, items)
    asyncio.run(_serve(console, site, port))
    return 0


async def _serve(console: Console, site: Site, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    runner = web.AppRunner(site.app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        url = f"http://127.0.0.1:{port}/"
        print_text(console, f"{url}   Ctrl-C stops.")
        if sys.stdout.isatty() and _has_display():
            await asyncio.to_thread(webbrowser.open, url)
        await stopped.wait()
    finally:
        await runner.cleanup()


def _has_display() -> bool:
    """Whether a browser would open a window; without a display it would take the terminal."""
    return sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
