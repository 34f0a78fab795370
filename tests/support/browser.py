"""A headless browser: Debian's Chromium, controlled through chromedriver."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

# Without requests of its own over the network. `--no-sandbox` allows it to run as root, as in a
# container.
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
)


@contextlib.contextmanager
def open_browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a new profile, which records its console and is closed at the end."""
    options = webdriver.ChromeOptions()
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def console_messages(driver: webdriver.Chrome) -> list[str]:
    """The console messages since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]  # type: ignore[no-untyped-call]


def emulate_phone(driver: webdriver.Chrome) -> None:
    """Show pages as on a phone."""
    _set_screen(driver, {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True})


def emulate_laptop(driver: webdriver.Chrome) -> None:
    """Show pages as on a small laptop."""
    _set_screen(driver, {"width": 1280, "height": 720, "deviceScaleFactor": 1, "mobile": False})


def _set_screen(driver: webdriver.Chrome, screen: dict[str, object]) -> None:
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
