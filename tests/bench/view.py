"""The page of stored items in a real browser: the time to load it and to update it."""

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
from selenium import webdriver

from bench.load import percentile
from bench.report import Section, Target
from operate.time_ordered_ids import first_item_id
from pipeline.store.settings import StorageSettings
from sandbox import catalogue
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from sandbox.environment import announce
from sandbox.log_file import LogFile
from sandbox.processes import Process, free_port
from sandbox.stack import Stack, start_stack
from support.browser import open_browser
from support.page import Served, serve
from support.programs import PROGRAMS

ITEMS = 10_000
_TRIES = 20
_PATIENCE_SECONDS = 60.0
_LISTING_SECONDS = 0.05
_POLL_SECONDS = 0.05

# Resolves when the list contains a text, with the time in milliseconds since 1970.
_WHEN_SHOWN = """
const [text, done] = arguments;
const list = document.getElementById("items");
const shown = () => list.textContent.includes(text) && (done(Date.now()), true);
if (!shown()) {
  const observer = new MutationObserver(() => shown() && observer.disconnect());
  observer.observe(list, { childList: true, subtree: true });
}
"""
_TYPE = """
const search = document.getElementById("search");
search.value = arguments[0];
search.dispatchEvent(new Event("input"));
return Date.now();
"""


def measure(quick: bool, say: Callable[[str], None]) -> list[Section]:
    """Measure `make view` beside a running pipeline."""
    count = 1000 if quick else ITEMS
    section = Section(
        f"The page of {count:,} items, in Chromium",
        "First view: from the start of the navigation until the page with its rows is loaded."
        " Search: from the input until the rows are replaced. A new item: from the first byte of"
        " its webhook, through both functions and Pub/Sub, until its row is shown. First rows of"
        " a bucket: from the start of the page; a stand-in of Cloud Storage shares its process.",
        ("", "tries", "p50 ms", "slowest ms"),
    )
    if not PROGRAMS["chromium"].is_installed():
        section.rows.append(("Chromium is not installed", "0", "", ""))
        return [section]
    with tempfile.TemporaryDirectory() as name:
        say(f"a page of {count} items")
        _measure(section, Path(name), count)
    return [section]


def _measure(section: Section, folder: Path, count: int) -> None:
    variety = random.Random(1)
    (folder / "data" / "items").mkdir(parents=True)
    codes = []
    for number in range(count):
        codes.append(f"code-{number:05}-")
        item = catalogue.make_item(variety, photos=0)
        item["barcode_scanning"] = [{"flow_step_id": "barcode", "code": codes[-1]}]
        (folder / "data" / "items" / f"{item['_id']}.json").write_text(json.dumps(item))
    log_file = LogFile(folder / "data")
    log_file.prepare()
    with (
        start_stack(folder / "data", on_log=log_file.add) as stack,
        announce(stack.running, folder / "data"),
        open_browser(folder / "profile") as browser,
    ):
        url = f"http://127.0.0.1:{free_port()}/"
        view = _start(folder / "data", url)
        try:
            browser.set_script_timeout(_PATIENCE_SECONDS)
            browser.get(url)
            _when_shown(browser, f"{count:,} of {count:,} items")
            first = [_first_view(browser, url) for _ in range(_TRIES)]
            searched = [_search(browser, variety.choice(codes)) for _ in range(_TRIES)]
            browser.get(url)
            appeared = [_new_item(browser, stack, f"new-{number}-") for number in range(_TRIES)]
        finally:
            view.stop()
    for label, times in (("first view", first), ("search", searched), ("a new item", appeared)):
        section.rows.append((label, str(_TRIES), percentile(times, 50), max(times)))
    first_rows = _first_rows(count * 100)
    bucket = f"first rows of a bucket of {count * 100:,} items, 50 ms a list call"
    section.rows.append((bucket, "1", first_rows, first_rows))
    section.targets = [
        Target(bucket, first_rows, 2000, "ms", highest=True),
        Target(f"first view of {count:,} items", max(first), 1000, "ms", highest=True),
        Target(f"search in {count:,} items", max(searched), 100, "ms", highest=True),
        Target(
            "a new item on the page, after its webhook", max(appeared), 1000, "ms", highest=True
        ),
    ]


def _first_rows(count: int) -> float:
    """The milliseconds from the start of the page until it shows the first items of a bucket."""
    storage = CloudStorage()
    storage.listing_seconds = _LISTING_SECONDS
    item = json.dumps(catalogue.VENDOR_EXAMPLE).encode()
    oldest, age = datetime.now(UTC) - timedelta(days=2 * 365), timedelta(days=2 * 365)
    for number in range(count):
        time_of_scan = first_item_id(oldest + age * number / count)
        storage.put(f"scans/items/{time_of_scan}{number:016x}.json", item)
    storage.page_of("scans", {})  # sorts the names
    with tempfile.TemporaryDirectory() as folder, Background() as background:
        background.run(storage.start())
        installation = Served(Path(folder), StorageSettings("gs://scans", storage.url))
        started = time.monotonic()
        page = background.run(serve(installation, ITEMS))
        while "A0155C35" not in requests.get(page.url, timeout=_PATIENCE_SECONDS).text:
            time.sleep(_POLL_SECONDS)
        spent = (time.monotonic() - started) * 1000
        background.run(page.stop())
        background.run(storage.stop())
    return spent


def _start(folder: Path, url: str) -> Process:
    """Start `make view` and wait until it serves."""
    port = url.rstrip("/").rpartition(":")[2]
    view = Process(
        [sys.executable, "-m", "sandbox", "view"],
        os.environ
        | {"PYTHONPATH": ":".join(sys.path), "PYTHONUNBUFFERED": "1"}
        | {"DATA": str(folder), "VIEW_PORT": port, "ENV": "", "LIMIT": str(10 * ITEMS)},
    )
    view.wait_until(lambda: any(url in line for line in view.lines))
    return view


def _first_view(browser: webdriver.Chrome, url: str) -> float:
    browser.get(url)
    spent = "const [n] = performance.getEntriesByType('navigation'); return n.loadEventEnd"
    return float(browser.execute_script(spent))


def _search(browser: webdriver.Chrome, code: str) -> float:
    typed = browser.execute_script(_TYPE, code)
    found = _when_shown(browser, code)
    browser.execute_script(_TYPE, "")
    _when_shown(browser, "Show more")
    return found - float(typed)


def _new_item(browser: webdriver.Chrome, stack: Stack, code: str) -> float:
    assert stack.api
    item = catalogue.make_item(random.Random(code), photos=0)
    item["barcode_scanning"] = [{"flow_step_id": "barcode", "code": code}]
    now = datetime.now(UTC).replace(tzinfo=None).isoformat()
    stack.api.put(item | {"created_at": now, "updated_at": now})
    sent = time.time() * 1000
    stack.send({"item_ids": [item["_id"]]})
    return _when_shown(browser, code) - sent


def _when_shown(browser: webdriver.Chrome, text: str) -> float:
    """Wait until the list shows a text; return the time in milliseconds since 1970."""
    return float(browser.execute_async_script(_WHEN_SHOWN, text))
