"""`make screenshots`: pictures of the page of `make view` with sample scans, for the documents.

Exit status 0 when they are written; 2, with the reason, when that is not possible.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By

from operate.google.deployment import ROOT
from pipeline.archive.photos import photos_of
from pipeline.layout import photo_name
from sandbox import catalogue
from sandbox.environment import announce
from sandbox.log_file import LogFile
from sandbox.processes import Process, StartError, free_port
from sandbox.stack import Stack, start_stack
from support.browser import open_browser
from support.programs import PROGRAMS
from support.waiting import wait_for

FOLDER = ROOT / ".images"
_DATA = ROOT / ".data"
_SCANS = 12
_WIDTH = 1120  # of the pictures, in pixels
_HEIGHTS = {"items": 640, "item": 1240}
_KINDS = ("barcode_scanning", "dimensioning", "weighing", "photographing")

# Whether every picture in the page's visible part is there.
_ARE_PHOTOS_LOADED = """
return [...document.images].every(
  image => image.complete || image.getBoundingClientRect().top > innerHeight
);
"""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--folder", type=Path, default=FOLDER)
    chromium = PROGRAMS["chromium"]
    if not chromium.is_installed():
        print(f"Chromium is not installed: {chromium.installation}", file=sys.stderr)
        return 2
    try:
        take(arguments.parse_args().folder)
    except StartError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def take(folder: Path) -> None:
    """Write items.png, the list, and item.png, the page of one item, into a folder.

    Raises:
        StartError: a part of the pipeline or the page did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _DATA.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as profile,
        # The page shows the name of this folder, relative to that of the repository.
        tempfile.TemporaryDirectory(prefix="sample-", dir=_DATA) as data,
        _pipeline(Path(data)) as stack,
        _page(stack.folder) as url,
        open_browser(Path(profile)) as browser,
    ):
        shown = _scan(stack)
        _set_height(browser, _HEIGHTS["items"])
        _open(browser, url, f"{_SCANS} of {_SCANS} items")
        browser.save_screenshot(str(folder / "items.png"))
        _set_height(browser, _HEIGHTS["item"])
        _open(browser, f"{url}items/{shown}", "Steps")
        browser.save_screenshot(str(folder / "item.png"))


@contextmanager
def _pipeline(folder: Path) -> Iterator[Stack]:
    """The pipeline, with its log in the folder, from which the page reads the status."""
    log_file = LogFile(folder)
    log_file.prepare()
    with (
        start_stack(folder, photos=True, keeps_messages=True, on_log=log_file.add) as stack,
        announce(stack.running, folder),
    ):
        yield stack


@contextmanager
def _page(folder: Path) -> Iterator[str]:
    """The page of the items in a folder; yields its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    settings = {"DATA": str(folder), "VIEW_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    view = Process(
        [sys.executable, "-m", "sandbox", "view"],
        {"PYTHONPATH": ":".join(str(ROOT / each) for each in ("function", "infra", "tests"))}
        | settings,
        folder=folder,
    )
    try:
        view.wait_until(lambda: any(url in line for line in view.lines))
        yield url
    finally:
        view.stop()


def _scan(stack: Stack) -> str:
    """Send scans through the pipeline, and wait until they are stored; return one with all steps.

    The same at each time, except for their times.
    """
    assert stack.api
    rng = random.Random(3)
    items = [
        catalogue.make_item(rng, photo_url_prefix=stack.api.photo_url_prefix) for _ in range(_SCANS)
    ]
    for item in items:
        item_id = stack.api.put(item)
        stack.send({"item_ids": [item_id]})
    wait_for(lambda: all(stack.item(item["_id"]) for item in items), "the items in storage")
    names = [photo_name(item["_id"], photo.name) for item in items for photo in photos_of(item)]
    wait_for(lambda: all((stack.folder / name).exists() for name in names), "their photos")
    complete = (item for item in items if all(item.get(kind) for kind in _KINDS))
    return str(next(complete)["_id"])


def _open(browser: webdriver.Chrome, url: str, text: str) -> None:
    """Open a page, and wait until it shows a text, its status and its photos."""

    def is_complete() -> bool:
        return (
            text in browser.find_element(By.TAG_NAME, "body").text
            and bool(browser.find_elements(By.CSS_SELECTOR, ".state div"))
            and bool(browser.execute_script(_ARE_PHOTOS_LOADED))
        )

    browser.get(url)
    wait_for(is_complete, text)


def _set_height(browser: webdriver.Chrome, height: int) -> None:
    size = {"width": _WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


if __name__ == "__main__":
    sys.exit(main())
