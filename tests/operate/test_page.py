"""`make view`: the page of stored items, over HTTP and in a real browser.

One of them: .venv/bin/pytest tests/operate/test_page.py -k hostile
"""

import json
import random
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from operate.google.deployment import ROOT
from operate.times import lasting, shown_text
from operate.view.drawing import HEIGHT, WIDTH, draw
from operate.view.index import Index
from operate.view.scan import Sides, indented, read_scan, read_summary
from pipeline.archive.photos import name_of
from pipeline.json_text import compact
from pipeline.store.receipts import DeliveryId, Receipt
from pipeline.store.settings import StorageSettings
from sandbox import catalogue
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from sandbox.environment import announce
from sandbox.log_file import LogFile
from sandbox.photos import PhotoFault, draw_photo
from sandbox.processes import Process, free_port
from sandbox.secret_search import assert_no_secrets
from sandbox.stack import SANDBOX_API_KEY, Stack, start_stack
from support import page as pages
from support.browser import console_messages, emulate_laptop, emulate_phone, open_browser
from support.page import HOSTILE, Serve, Served
from support.programs import needs
from support.waiting import wait_for

NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)


def put(folder: Path, item: dict[str, Any]) -> str:
    (folder / "items").mkdir(exist_ok=True)
    line = compact(json.dumps(item, ensure_ascii=False).encode())
    (folder / "items" / f"{item['_id']}.json").write_bytes(line)
    return str(item["_id"])


def hostile_item() -> dict[str, Any]:
    """An item with hostile text in every field."""
    step = {"flow_step_id": HOSTILE, "started_at": HOSTILE, "ended_at": HOSTILE, HOSTILE: HOSTILE}
    addresses = [
        "javascript:document.title='taken'",
        "https://127.0.0.1:1/\" onerror=\"document.title='taken'",
        "data:text/html,<script>document.title='taken'</script>",
        "file:///etc/passwd",
        HOSTILE,
    ]
    return {
        "_id": catalogue.new_id(random.Random()),
        "flow_id": HOSTILE,
        HOSTILE: HOSTILE,
        "barcode_scanning": [step | {"code": HOSTILE}],
        "dimensioning": [
            step | {"dimensions": {"width": 3, "height": 2.5, "depth": 1, "unit": HOSTILE}}
        ],
        "weighing": [step | {"weight": HOSTILE, "unit": HOSTILE}],
        "photographing": [step | {"photos": [{"url": address} for address in addresses]}],
        "questions": [step | {"question": HOSTILE, "answer": HOSTILE}],
    }


# Reading items

anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
steps = st.lists(st.dictionaries(st.sampled_from(["code", "photos", "dimensions"]), anything))


@given(
    st.fixed_dictionaries(
        {
            "flow_id": anything,
            "barcode_scanning": steps | anything,
            "dimensioning": steps | anything,
            "weighing": anything,
            "photographing": steps | anything,
            "questions": anything,
        }
    )
)
def test_every_item_can_be_read(fields: dict[str, Any]) -> None:
    body = json.dumps({"_id": "a"} | fields).encode()

    scan = read_scan("a", body, NOW)

    assert scan.summary.fault == ""
    if scan.summary.sides:
        draw(scan.summary.sides)


@pytest.mark.parametrize(
    "dimensions",
    [
        {"width": "12", "height": 1, "depth": 1},
        {"width": True, "height": 1, "depth": 1},
        {"width": 0, "height": 1, "depth": 1},
        {"width": -1, "height": 1, "depth": 1},
        {"width": 10**400, "height": 1, "depth": 1},
        {"width": 1, "height": 1},
        [1, 2, 3],
        None,
    ],
)
def test_invalid_dimensions_are_ignored(dimensions: Any) -> None:
    body = json.dumps({"_id": "a", "dimensioning": [{"dimensions": dimensions}]}).encode()

    assert read_summary("a", body, NOW).sides is None


@given(*[st.floats(1e-6, 1e9)] * 3)
def test_a_drawing_is_to_scale_and_within_its_frame(w: float, h: float, d: float) -> None:
    drawing = draw(Sides(w, h, d, "cm"))

    front = [tuple(map(float, point.split(","))) for point in drawing.front.split()]
    side = [tuple(map(float, point.split(","))) for point in drawing.side.split()]
    (near, right, _, near_top), left = front, side[1]
    along_width = ((right[0] - near[0]) ** 2 + (right[1] - near[1]) ** 2) ** 0.5
    along_depth = ((left[0] - near[0]) ** 2 + (left[1] - near[1]) ** 2) ** 0.5
    along_height = near[1] - near_top[1]
    length = float(drawing.labels[-1].text.split()[0])
    per_unit = (drawing.scale_to - drawing.scale_from) / length
    for drawn, side_length in ((along_width, w), (along_height, h), (along_depth, d)):
        assert drawn == pytest.approx(side_length * per_unit, abs=0.2, rel=1e-3)
    for points in (drawing.top, drawing.front, drawing.side):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


@given(anything)
def test_indented_json_is_the_same_json(value: Any) -> None:
    text = indented(json.dumps(value, separators=(",", ":")).encode())

    assert json.loads(text) == value


def test_indented_json_keeps_numbers_as_written() -> None:
    assert indented(b'{"a":1.0E5,"b":[],"c":[{},1]}') == (
        '{\n  "a": 1.0E5,\n  "b": [],\n  "c": [\n    {},\n    1\n  ]\n}'
    )


# The pages over HTTP


def test_other_hosts_and_methods_are_refused_and_security_headers_sent(
    tmp_path: Path, serve: Serve
) -> None:
    url = serve(f"file://{tmp_path}")

    rebound = requests.get(url, headers={"Host": "evil.example.com"}, timeout=5)
    assert rebound.status_code == 403
    assert requests.post(url, timeout=5).status_code == 405
    for path in ("/", "/items/none", "/view.js", "/nothing"):
        headers = requests.get(f"{url}{path}", timeout=5).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/items/67c861de20bb29fb40d2cbbd",
        "/items/..%2fsecret",
        "/items/..%2fsecret.json",
        "/events/..%2fsecret.json",
        "/items/%2e%2e%2fsecret.json",
        "/..%2fview%2fsite.py",
        "/site.py",
        "/items/%3Cscript%3E",
        "/photos/67c861de20bb29fb40d2cbbd/0123456789abcdef",
        "/photos/..%2f..%2f/secret",
        "/photos/a/..%2f..%2fsecret",
        "/photos/a/%2e%2e%2f%2e%2e%2fsecret",
        "/photos/%2e%2e/secret",
    ],
)
def test_paths_lead_only_to_listed_objects(tmp_path: Path, serve: Serve, path: str) -> None:
    (tmp_path / "secret").write_text("confidential")
    (tmp_path / "secret.json").write_text('{"_id": "a", "secret": "confidential"}')
    url = serve(f"file://{tmp_path}")

    response = requests.get(f"{url}{path}", timeout=5)

    assert response.status_code == 404
    assert "confidential" not in response.text
    assert "<script>" not in response.text.replace('<script src="/view.js" defer>', "")


PNG = draw_photo("a photo")


def put_photo(folder: Path, item: dict[str, Any], number: int, content: bytes) -> str:
    """Archive a photo of an item; return the path of its page."""
    name = name_of(item["photographing"][0]["photos"][number]["url"])
    path = folder / "photos" / item["_id"] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"/photos/{item['_id']}/{name}"


def test_an_archived_photo_is_shown_from_storage_and_any_other_by_its_link(
    tmp_path: Path, serve: Serve
) -> None:
    put(tmp_path, item := catalogue.make_item(random.Random(11), photos=2))
    stored = put_photo(tmp_path, item, 0, PNG)
    links = [photo["url"] for photo in item["photographing"][0]["photos"]]
    url = serve(f"file://{tmp_path}")
    wait_for(lambda: requests.get(f"{url}/items/{item['_id']}", timeout=5).ok, "the item's page")

    page = requests.get(f"{url}/items/{item['_id']}", timeout=5).text

    assert re.findall(r'<img src="([^"]*)"', page) == [stored, links[1]]
    assert re.findall(r'data-link="([^"]*)"', page) == [links[0]]
    photo = requests.get(f"{url}{stored}", timeout=5)
    assert (photo.status_code, photo.content) == (200, PNG)
    assert photo.headers["Content-Type"] == "image/png"
    assert photo.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in photo.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\xff\xd8\xff\xe0 a photo", "image/jpeg"),
        (b"\0\0\0\x18ftypheic a photo", "image/heic"),
        (b"RIFF\x10\0\0\0WEBP a photo", "image/webp"),
        (PNG + bytes(3_000_000), "image/png"),
    ],
)
def test_the_type_of_an_archived_photo_is_that_of_its_content(
    tmp_path: Path, serve: Serve, content: bytes, kind: str
) -> None:
    item = catalogue.make_item(random.Random(12), photos=1)
    url = serve(f"file://{tmp_path}") + put_photo(tmp_path, item, 0, content)

    photo = requests.get(url, timeout=5)

    assert (photo.content, photo.headers["Content-Type"]) == (content, kind)
    assert "Content-Disposition" not in photo.headers


@pytest.mark.parametrize(
    "content", [b"<script>alert(1)</script>", b"<svg></svg>", b"%PDF-1.7", b""]
)
def test_an_archived_photo_that_is_no_image_is_a_download(
    tmp_path: Path, serve: Serve, content: bytes
) -> None:
    item = catalogue.make_item(random.Random(13), photos=1)
    url = serve(f"file://{tmp_path}") + put_photo(tmp_path, item, 0, content)

    photo = requests.get(url, timeout=5)

    assert (photo.status_code, photo.content) == (200, content)
    assert photo.headers["Content-Type"] == "application/octet-stream"
    assert photo.headers["Content-Disposition"] == "attachment"


def test_the_thumbnail_of_a_photo_that_is_not_archived_yet_is_empty(
    tmp_path: Path, serve: Serve
) -> None:
    """So that a page of them puts no errors on the browser's console."""
    url = serve(f"file://{tmp_path}")

    missing = requests.get(f"{url}/photos/67c8/0123456789abcdef?optional", timeout=5)

    assert (missing.status_code, missing.headers["Content-Type"]) == (200, "image/svg+xml")
    assert requests.get(f"{url}/photos/67c8/0123456789abcdef", timeout=5).status_code == 404


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"barcode_scanning": [{"code": "A1"}, {"code": "B2"}], "code": "C3"}, "A1, B2"),
        ({"barcode_scanning": [{"code": None}], "code": "C3"}, "C3"),
        ({"order_reference": 4711, "flow_id": "Inbound"}, "4711"),
        ({"decode": "x", "code": ["y"], "barcode": ""}, ""),
    ],
)
def test_an_item_is_named_by_its_barcode_or_by_another_code(
    fields: dict[str, Any], name: str
) -> None:
    body = json.dumps({"_id": "67c8"} | fields).encode()

    assert read_summary("67c8", body, NOW).code == name


def test_times_of_an_item_are_shown_with_a_zone_and_other_texts_as_they_are() -> None:
    assert shown_text("2025-03-05T14:38:22.903000") == "2025-03-05 14:38:22 UTC"
    assert shown_text("2025-03-05T14:38:22+02:00") == "2025-03-05 12:38:22 UTC"
    assert shown_text("2025-03-05") == "2025-03-05"
    assert shown_text("2025-03-05T99:99") == "2025-03-05T99:99"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (2.2e6, "25 d"),
    ],
)
def test_a_length_of_time_has_one_unit(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


@pytest.mark.parametrize("zone", ["XXX+5", "XXX-5"])
def test_the_ends_of_the_calendar_are_shown_in_any_zone(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        # The C library writes the year without zeros.
        assert re.fullmatch(r"0*1-01-01 0[05]:00:00 (UTC|XXX)", shown_text("0001-01-01T00:00:00"))
        assert re.fullmatch(r"9999-12-31 \d\d:59:59 (UTC|XXX)", shown_text("9999-12-31T23:59:59"))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_photo_of_a_bucket_that_cannot_be_read_is_reported(
    background: Background, serve: Serve
) -> None:
    storage = CloudStorage()
    background.run(storage.start())
    url = serve("gs://scans", storage.url)
    storage.fail_next(403, times=100)

    photo = requests.get(f"{url}/photos/a/0123456789abcdef", timeout=30)

    assert photo.status_code == 503
    assert "Storage cannot be read" in photo.text
    background.run(storage.stop())


def test_the_page_goes_on_after_an_unforeseen_error(
    background: Background, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = Served(tmp_path, StorageSettings(f"file://{tmp_path}"))

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(installation, "archives_photos", fail)
    monkeypatch.setattr(Index, "refresh", fail)
    server = background.run(pages.serve(installation, limit=100))

    def shown() -> str:
        return requests.get(server.url, timeout=5).text

    wait_for(lambda: shown().count("ZeroDivisionError: a fault of ours") == 2, "both errors")
    monkeypatch.undo()
    wait_for(lambda: "ZeroDivisionError" not in shown(), "the page without them")
    background.run(server.stop())


def test_only_the_newest_items_of_a_bucket_are_read(background: Background, serve: Serve) -> None:
    storage = CloudStorage()
    background.run(storage.start())
    variety = random.Random(3)
    items = [catalogue.make_item(variety, photos=0) for _ in range(1300)]
    items.sort(key=lambda item: str(item["_id"]))  # as their ids say, which begin with a time
    for item in items:
        storage.put(f"scans/items/{item['_id']}.json", json.dumps(item).encode())
    receipt = Receipt(
        event_id="msg_of_the_last",
        kind="items.scanned",
        delivery=DeliveryId("2026-11-01T08:00:00.123456Z", "1"),
        attempts=1,
        items={items[-1]["_id"]: "stored"},
        payload=b"{}",
    )
    storage.put("scans/events/msg_of_the_last.json", receipt.line())

    url = serve("gs://scans", storage.url, limit=1200)

    def page(query: str = "") -> str:
        return requests.get(f"{url}/{query}", timeout=5).text

    count = "1,200 of 1,200 items; 100 older ones are not shown (a higher LIMIT shows more)</p>"
    wait_for(lambda: count in page())
    assert page().count("<tr>") == 101
    assert f"/items/{items[-1]['_id']}" in page("?q=msg_of_the_last")
    assert "msg_of_the_last" in requests.get(f"{url}/items/{items[-1]['_id']}", timeout=5).text
    assert "No item has all these words" in page(f"?q={items[0]['_id']}")

    storage.fail_next(403, times=1000)
    wait_for(lambda: "cannot be read: " in page(), "the storage error")
    shown = requests.get(f"{url}/items/{items[-1]['_id']}", timeout=5)
    assert shown.status_code == 503
    background.run(storage.stop())


def test_an_object_that_is_not_an_item_is_shown_with_the_reason(
    tmp_path: Path, serve: Serve
) -> None:
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "<b>.json").write_text("by hand")
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "msg_1.json").write_text("by hand, too")
    url = serve(f"file://{tmp_path}")

    wait_for(lambda: "not an item" in requests.get(url, timeout=5).text, "the object")
    page = requests.get(url, timeout=5).text

    assert ">&lt;b&gt;</a>" in page
    assert "This is not an item: not JSON" in page
    shown = requests.get(f"{url}/items/%3Cb%3E", timeout=5)
    assert shown.status_code == 200
    assert "by hand" in shown.text


def test_a_long_flow_is_cut_on_its_page_and_complete_as_json(tmp_path: Path, serve: Serve) -> None:
    item = catalogue.padded(catalogue.make_item(random.Random(1)), 3_000_000)
    name = put(tmp_path, item)
    url = serve(f"file://{tmp_path}")
    wait_for(lambda: name in requests.get(url, timeout=5).text, "the item")

    page = requests.get(f"{url}/items/{name}", timeout=5)

    assert len(page.content) < 1_000_000
    assert "more are in the JSON" in page.text
    response = requests.get(f"{url}/items/{name}.json", timeout=5)
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.json() == item


# The pages in a browser

BROWSER_MARKS = [needs("chromium"), pytest.mark.xdist_group("browser")]


def browser_test(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs the browser; these run one at a time."""
    for mark in BROWSER_MARKS:
        test = mark(test)
    return test


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def browser(window: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """The browser. The test fails if the page has a secret or the console a message."""
    window.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    yield window
    assert_no_secrets(window.current_url, [window.page_source], [SANDBOX_API_KEY])
    messages = console_messages(window)
    window.get("about:blank")
    assert messages == []


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Stack]:
    """The running stack of `make run`."""
    log_file = LogFile(tmp_path)
    log_file.prepare()
    with (
        start_stack(tmp_path, on_log=log_file.add) as stack,
        announce(stack.running, tmp_path),
    ):
        yield stack


# A page replaces its parts at any moment, so nothing is read from an element that was found before.


def text_of(driver: webdriver.Chrome, selector: str) -> str:
    """The text of an element, or an empty string while the element does not exist."""
    while True:
        try:
            return driver.find_element(By.CSS_SELECTOR, selector).text
        except NoSuchElementException:
            return ""
        except StaleElementReferenceException:
            continue


def wait_for_text(driver: webdriver.Chrome, selector: str, text: str) -> None:
    """Return once an element has this text in it."""
    wait_for(lambda: text in text_of(driver, selector), text)


def read_all(driver: webdriver.Chrome, selector: str, name: str) -> list[Any]:
    """This property of all elements."""
    script = "return [...document.querySelectorAll(arguments[0])].map(each => each[arguments[1]])"
    found: list[Any] = driver.execute_script(script, selector, name)
    return found


def focused_link(driver: webdriver.Chrome) -> str | None:
    """The URL of the link that has the focus."""
    found: str | None = driver.execute_script("return document.activeElement.href")
    return found


def click_link(driver: webdriver.Chrome, text: str) -> None:
    """Click the first link that contains this text."""

    def click() -> bool:
        try:
            driver.find_element(By.PARTIAL_LINK_TEXT, text).click()
        except (NoSuchElementException, StaleElementReferenceException):
            return False
        return True

    wait_for(click, f"the link {text}")


def is_loaded(driver: webdriver.Chrome, url: str) -> bool:
    is_complete = driver.execute_script("return document.readyState") == "complete"
    return is_complete and driver.current_url == url


def press(driver: webdriver.Chrome, *keys: str) -> None:
    for key in keys:
        driver.switch_to.active_element.send_keys(key)


@browser_test
def test_a_new_item_appears_can_be_searched_and_opened_and_its_page_updates(
    running: Stack, serve: Serve, browser: webdriver.Chrome
) -> None:
    assert running.api
    url = serve(f"file://{running.folder}")
    browser.get(url)
    wait_for_text(browser, "#items", "Nothing is stored yet")
    browser.execute_script("window.isTheSamePage = true")
    item = catalogue.make_item(
        random.Random(4), photos=3, photo_url_prefix=running.api.photo_url_prefix
    )
    item |= catalogue.VENDOR_EXAMPLE | {
        "_id": item["_id"],
        "photographing": item["photographing"],
        "dimensioning": [
            {
                "flow_step_id": "box",
                "started_at": "2025-03-05T14:38:19",
                "dimensions": {"width": 30, "height": 20.5, "depth": 40, "unit": "cm"},
            }
        ],
    }
    other = catalogue.make_item(random.Random(5), photos=0)

    message = running.send({"item_ids": [running.api.put(item), running.api.put(other)]})

    wait_for_text(browser, "#items", "2 of 2 items")
    wait_for_text(browser, "#state", "1 in the last hour")
    assert running.running.webhook_url in text_of(browser, "#state")
    press(browser, "a0155", "c35")
    wait_for_text(browser, "#items", "1 of 2 items")
    assert "A0155C35" in text_of(browser, "tbody")
    assert "30 x 20.5 x 40 cm" in text_of(browser, "tbody")
    assert browser.execute_script("return window.isTheSamePage")
    press(browser, Keys.ENTER)

    wait_for(lambda: browser.current_url.endswith(f"/items/{item['_id']}"), "the item's page")
    wait_for_text(browser, "h2", "A0155C35")
    wait_for_text(browser, "#item", f"{message.message_id}: items.scanned, done, this item stored")
    shown = text_of(browser, "#item")
    assert shown.index("barcode scanning") < shown.index("dimensioning")
    assert json.loads(text_of(browser, "pre")) == item
    assert "width 30" in text_of(browser, "svg")
    assert len(read_all(browser, "img", "src")) == 3
    wait_for(lambda: all(read_all(browser, "img", "naturalWidth")), "the photos")

    running.api.put(catalogue.updated(item, updated_at="2099-01-01T00:00:00", flow_id="Newer"))
    second = running.send({"item_ids": [item["_id"]]})
    wait_for_text(browser, "h2", "Newer")
    wait_for_text(browser, "#item", second.message_id)
    click_link(browser, message.message_id)
    wait_for_text(browser, "h2", message.message_id)
    wait_for_text(browser, "#event", "Done: 2 items of 2 in storage.")
    click_link(browser, other["_id"])
    wait_for(lambda: browser.current_url.endswith(f"/items/{other['_id']}"), "the other item")
    browser.back()
    click_link(browser, "The receipt as JSON")
    wait_for(lambda: f'"event_id":"{message.message_id}' in browser.page_source, "the receipt")


@browser_test
def test_a_hostile_item_is_shown_as_text(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    name = put(tmp_path, hostile_item())
    url = serve(f"file://{tmp_path}")
    browser.get(url)
    wait_for_text(browser, "tbody .code", HOSTILE)
    press(browser, "nothing like it")
    wait_for_text(browser, "#items", "No item has all these words")
    press(browser, Keys.ESCAPE)
    wait_for_text(browser, "tbody .code", HOSTILE)
    assert browser.title == "Items · the test's sandbox"

    browser.get(f"{url}/items/{name}")

    assert HOSTILE in text_of(browser, "h2")
    assert "javascript:document.title" in text_of(browser, ".photos")
    assert browser.title == f"{HOSTILE} · the test's sandbox"
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1
    assert all(link.startswith(url) for link in read_all(browser, "a", "href"))


@browser_test
def test_archived_photos_are_shown_although_their_links_are_gone(
    running: Stack, serve: Serve, browser: webdriver.Chrome
) -> None:
    """The first one is archived; so is the second, but not as an image: its link is shown."""
    assert running.api
    prefix = running.api.photo_url_prefix
    put(running.folder, item := catalogue.make_item(random.Random(14), 2, prefix))
    gone, link = (photo["url"] for photo in item["photographing"][0]["photos"])
    running.api.photos.fail(PhotoFault("status", 404, name=gone.removeprefix(prefix)))
    stored = put_photo(running.folder, item, 0, PNG)
    put_photo(running.folder, item, 1, b"not an image")
    url = serve(f"file://{running.folder}")
    wait_for(lambda: requests.get(f"{url}/items/{item['_id']}", timeout=5).ok, "the item's page")

    browser.get(f"{url}/items/{item['_id']}")

    def shown() -> bool:
        sources = read_all(browser, "img", "src")
        is_complete = all(read_all(browser, "img", "naturalWidth"))
        return sources == [f"{url}{stored}", link] and is_complete

    wait_for(shown, "both photos")


@browser_test
def test_a_row_begins_with_the_first_archived_photo(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    item = catalogue.make_item(random.Random(14), 2)
    put(tmp_path, item)
    path = put_photo(tmp_path, item, 0, draw_photo("any"))
    url = serve(f"file://{tmp_path}")
    browser.get(url)

    def is_shown() -> bool:
        sources = read_all(browser, "tbody img", "src")
        is_complete = all(read_all(browser, "tbody img", "naturalWidth"))
        return sources == [f"{url}{path}?optional"] and is_complete

    wait_for(is_shown, "the thumbnail")


@browser_test
def test_every_action_works_from_the_keyboard(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    variety = random.Random(6)
    for _ in range(3):
        put(tmp_path, catalogue.make_item(variety, photos=0))
    url = serve(f"file://{tmp_path}")
    wait_for(lambda: "3 of 3" in requests.get(url, timeout=5).text)
    browser.get(url)
    rows = read_all(browser, "tbody a", "href")

    press(browser, Keys.ARROW_DOWN, Keys.ARROW_DOWN, "j", "j", "k")
    assert focused_link(browser) == rows[1]
    press(browser, "/", "nothing like it")
    wait_for_text(browser, "#items", "No item has all these words")
    press(browser, Keys.ESCAPE)
    wait_for_text(browser, "#items", "3 of 3")
    press(browser, Keys.ARROW_DOWN, Keys.ENTER)
    wait_for(lambda: browser.current_url == rows[0], "the first item's page")
    press(browser, Keys.ESCAPE)
    wait_for(lambda: is_loaded(browser, f"{url}/"), "the list")
    press(browser, "/", "o", Keys.ENTER)
    wait_for(lambda: "/items/" in browser.current_url, "the first search result")
    press(browser, Keys.ESCAPE)
    wait_for(lambda: browser.current_url == f"{url}/?q=o", "the search results")


@browser_test
def test_a_row_keeps_the_focus_when_an_item_arrives(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    first = put(tmp_path, catalogue.make_item(random.Random(7)))
    url = serve(f"file://{tmp_path}")
    browser.get(url)
    wait_for_text(browser, "#items", "1 of 1")
    press(browser, Keys.ARROW_DOWN)

    put(tmp_path, catalogue.make_item(random.Random(8)))

    wait_for_text(browser, "#items", "2 of 2")
    assert focused_link(browser) == f"{url}/items/{first}"


@browser_test
def test_a_hidden_tab_stops_updating_until_it_is_visible(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    url = serve(f"file://{tmp_path}")
    browser.get(url)
    set_hidden = """
        Object.defineProperty(document, "hidden", { value: arguments[0], configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
        return changes.readyState;
    """
    closed, connecting = 2, 0
    assert browser.execute_script(set_hidden, True) == closed
    wait_for(lambda: not browser.execute_script("return isFetching"), "the end of the last update")
    put(tmp_path, catalogue.make_item(random.Random(13)))
    wait_for(lambda: "1 of 1" in requests.get(url, timeout=5).text)
    assert "Nothing is stored yet" in text_of(browser, "#items")

    assert browser.execute_script(set_hidden, False) == connecting

    wait_for_text(browser, "#items", "1 of 1")


@browser_test
def test_a_page_shows_when_it_is_no_longer_updated(
    tmp_path: Path, window: webdriver.Chrome
) -> None:
    port = free_port()
    view = start_view(DATA=str(tmp_path), VIEW_PORT=str(port))
    try:
        wait_for(lambda: view.lines, "the first line")
        window.get(f"http://127.0.0.1:{port}/")
        wait_for_text(window, "#state", "is not running")
        assert text_of(window, "#offline") == ""
    finally:
        view.stop()

    wait_for_text(window, "#offline", "make view has ended")
    view = start_view(DATA=str(tmp_path), VIEW_PORT=str(port))
    try:
        wait_for(lambda: text_of(window, "#offline") == "", "the end of the notice")
    finally:
        view.stop()
        window.get("about:blank")
        console_messages(window)  # discards the messages about the lost connection


# The rows of tiles that do not reach the right edge, and the numbers that are broken into lines.
_UNEVEN = """
const right = element => Math.round(element.getBoundingClientRect().right);
const tiles = [...document.querySelectorAll(".state div")];
const rows = Map.groupBy(tiles, tile => Math.round(tile.getBoundingClientRect().top));
const edge = right(document.getElementById("state"));
const uneven = [...rows.values()].filter(row => Math.abs(right(row.at(-1)) - edge) > 1);
const numbers = [...document.querySelectorAll("td.sides, td.weight, td.time")];
const lines = element => {
  const range = document.createRange();
  range.selectNodeContents(element);
  return new Set([...range.getClientRects()].map(each => Math.round(each.top))).size;
};
return [uneven.length, numbers.filter(each => lines(each) > 1).map(each => each.textContent)];
"""


@browser_test
@pytest.mark.parametrize("emulate", [emulate_phone, emulate_laptop])
def test_no_tile_is_left_alone_and_no_number_is_broken(
    tmp_path: Path,
    serve: Serve,
    browser: webdriver.Chrome,
    emulate: Callable[[webdriver.Chrome], None],
) -> None:
    long = catalogue.make_item(random.Random(10), photos=0) | {"flow_id": "W" * 280}
    box = {"dimensions": {"width": 1234567.89, "height": 98765.4321, "depth": 3, "unit": "cm"}}
    put(tmp_path, long | {"dimensioning": [box], "weighing": [{"weight": 12345.678, "unit": "kg"}]})
    url = serve(f"file://{tmp_path}")
    emulate(browser)
    browser.get(url)
    wait_for_text(browser, "#state", "repaired")
    wait_for_text(browser, "tbody", "1,234,567.89 x 98,765.4321 x 3 cm")

    assert browser.execute_script(_UNEVEN) == [0, []]


@browser_test
def test_pages_fit_the_screen_of_a_phone(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    put(tmp_path, catalogue.make_item(random.Random(9)))
    long = catalogue.make_item(random.Random(10), photos=0) | {"flow_id": "W" * 280}
    put(tmp_path, long | {"barcode_scanning": [{"code": "0" * 200}]})
    url = serve(f"file://{tmp_path}")
    emulate_phone(browser)

    for path in ("/", f"/items/{long['_id']}"):
        wait_for(lambda path=path: requests.get(f"{url}{path}", timeout=5).ok)  # type: ignore[misc]
        browser.get(f"{url}{path}")
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width == 390


@browser_test
def test_ten_thousand_items_are_counted_searched_and_paged(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    variety = random.Random(11)
    items = [catalogue.make_item(variety) for _ in range(10_000)]
    items[5000]["barcode_scanning"] = [{"flow_step_id": "b", "code": "one-in-ten-thousand"}]
    for item in items:
        put(tmp_path, item)
    url = serve(f"file://{tmp_path}")
    browser.get(url)
    wait_for_text(browser, "#items", "10,000 of 10,000 items")
    assert len(read_all(browser, "tbody tr", "id")) == 100

    press(browser, "one-in-ten")

    wait_for_text(browser, "#items", "1 of 10,000 items")
    assert read_all(browser, "tbody a", "href") == [f"{url}/items/{items[5000]['_id']}"]
    press(browser, Keys.ESCAPE)
    wait_for_text(browser, "#items", "10,000 of 10,000 items")
    click_link(browser, "Show more")
    wait_for(lambda: len(read_all(browser, "tbody tr", "id")) == 500, "more rows")


# The command


def start_view(program: str = "sandbox", **settings: str) -> Process:
    paths = ":".join(str(ROOT / part) for part in ("function", "infra", "tests"))
    return Process(
        [sys.executable, "-m", program, "view"],
        {"PATH": "/usr/bin:/bin", "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"} | settings,
    )


def test_the_command_prints_its_url_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    name = put(tmp_path, catalogue.make_item(random.Random(12)))
    port = free_port()
    view = start_view(DATA=str(tmp_path), VIEW_PORT=str(port))
    try:
        wait_for(lambda: view.lines, "the first line")
        url = f"http://127.0.0.1:{port}/"
        assert view.lines[0].startswith(url)
        wait_for(lambda: name in requests.get(url, timeout=5).text, "the item")
        view.send(signal.SIGINT)
        assert view.wait() == 0
    finally:
        view.stop()


@pytest.mark.parametrize(
    ("program", "settings", "printed"),
    [
        ("sandbox", {"LIMIT": "all"}, "LIMIT=all is not a number"),
        ("sandbox", {"VIEW_PORT": "none"}, "VIEW_PORT=none is not a port"),
        ("operate", {"ENV": "moon"}, "ENV=moon is none of"),
    ],
)
def test_the_command_refuses_invalid_settings(
    tmp_path: Path, program: str, settings: dict[str, str], printed: str
) -> None:
    settings = {"DATA": str(tmp_path), "VIEW_PORT": str(free_port())} | settings
    view = start_view(program, **settings)

    assert view.wait() == 2
    assert view.lines[0].startswith(printed)


def test_a_busy_port_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        view = start_view(DATA=str(tmp_path), VIEW_PORT=str(port))

        assert view.wait() == 2
    assert view.lines[0].startswith(f"Port {port} is busy")
