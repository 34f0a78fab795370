"""`make view`: a page of what `make run` stores or, with ENV, of what lies in an installation's
bucket.

LIMIT is how many items it reads, the newest (10,000); VIEW_PORT where it is served (8090). Exit
status 0 after Ctrl-C; 2 when it could not begin.
"""

import asyncio
import os
import signal
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from rich.console import Console

from operate.cloud import Cloud, read_installation
from operate.console import UsageError, run
from pipeline.store.objects import open_storage
from pipeline.store.settings import StorageSettings
from sandbox.environment import data_folder, read_port, read_settings
from sandbox.view.index import Index
from sandbox.view.site import Site
from sandbox.view.state import CloudState, RunState

_PORT = "8090"
_MOST = "10000"
_FOLDER_SECONDS = 0.1  # a look at a folder costs next to nothing
_BUCKET_SECONDS = 10.0


def main() -> int:
    return run(_view)


def _view(console: Console) -> int:
    settings = read_settings()
    port = read_port(settings, "VIEW_PORT", _PORT)
    asyncio.run(_serve(console, _site(console, settings), port))
    return 0


def _site(console: Console, settings: Mapping[str, str]) -> Site:
    most = _read_limit(settings)
    if not os.environ.get("ENV"):
        folder = data_folder(settings)
        index = Index(open_storage(StorageSettings(f"file://{folder}")), most)
        return Site(_shortened(folder), index, RunState(folder, index), _FOLDER_SECONDS)
    where = read_installation(os.environ)
    cloud = Cloud(where)
    console.print(f"Asking for {where.environment} in {where.project} ...", markup=False)
    outputs = cloud.outputs()
    bucket = StorageSettings(f"gs://{outputs['bucket']}", settings.get("STORAGE_EMULATOR_HOST"))
    title = f"{where.environment} in {where.project}"
    state = CloudState(cloud, outputs)
    return Site(title, Index(open_storage(bucket), most), state, _BUCKET_SECONDS)


def _read_limit(settings: Mapping[str, str]) -> int:
    text = settings.get("LIMIT") or _MOST
    if not (text.isdecimal() and 0 < int(text) <= 1_000_000):
        raise UsageError(f"LIMIT={text} is not a number from 1 to 1000000.")
    return int(text)


def _shortened(folder: Path) -> str:
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


async def _serve(console: Console, site: Site, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    runner = web.AppRunner(site.app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        url = f"http://127.0.0.1:{port}/"
        console.print(f"{url}   Ctrl-C stops.", markup=False)
        if sys.stdout.isatty() and _has_screen():
            await asyncio.to_thread(webbrowser.open, url)
        await stopped.wait()
    finally:
        await runner.cleanup()


def _has_screen() -> bool:
    """Whether a browser would have a window; without one it would take the terminal."""
    return sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )


if __name__ == "__main__":
    sys.exit(main())
