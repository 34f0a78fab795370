"""`make doctor`: look at the settings in .env and, while it is up, at `make run`.

Sends one signed event of no known shape, which comes to lie in storage as its receipt and changes
nothing else. Exit status 0 when all is fine, 1 when something is to be mended.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console

from operate import checkup
from operate.checkup import Checked
from operate.console import run
from operate.story import Place
from pipeline.dimmy.settings import parse_api_key
from pipeline.receive.settings import parse_signing_secrets
from sandbox.environment import RunningStack, data_folder, read_settings, real_api, running_stack
from sandbox.processes import is_free

PLACE = Place("", is_cloud=False)
PATIENCE_SECONDS = 15.0


def main() -> int:
    return run(_doctor)


def _doctor(console: Console) -> int:
    return checkup.show(console, _checks(read_settings()))


def _checks(settings: Mapping[str, str]) -> Iterator[Checked]:
    folder = data_folder(settings)
    yield _storage(folder)
    api = real_api(settings)
    secrets = settings.get("SIGNING_SECRETS", "")
    if api or secrets:
        yield from checkup.check_form(
            "SIGNING_SECRETS",
            secrets,
            parse_signing_secrets,
            "Copy the signing secret of your endpoint (whsec_...) from the webhook dashboard into"
            " .env.",
        )
    if api:
        remedy = PLACE.set_secret("DIMMY_API_KEY")
        form = list(checkup.check_form("DIMMY_API_KEY", api.key, parse_api_key, remedy))
        yield from form
        if not any(check.remedy for check in form):
            yield from checkup.check_api(api.url, api.key, remedy)
    else:
        yield Checked("Dimmy's API", "the sandbox's own, as DIMMY_API_KEY is not set")
    stack = running_stack(folder)
    if stack is None:
        port = settings.get("PORT") or "8080"
        if port.isdecimal() and not is_free(int(port)):
            yield Checked("make run", f"is not up, and port {port} is busy", "make run PORT=...")
        else:
            yield Checked("make run", "is not up; it could be started")
        return
    yield from _running(stack, folder)


def _storage(folder: Path) -> Checked:
    for part in ("items", "events", "payloads"):
        probe = folder / part / f".doctor-{os.getpid()}"
        try:
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            return Checked(
                "storage",
                f"{probe.parent}: {error.strerror or type(error).__name__}",
                "Make the folder writable, or set DATA to another one.",
            )
    return Checked("storage", f"{folder} can be written to")


def _running(stack: RunningStack, folder: Path) -> Iterator[Checked]:
    remedy = "The lines of `make run` have the reason."
    found = list(checkup.check_endpoint(stack.webhook_url, " ".join(stack.signing_secrets), remedy))
    yield from found
    if any(check.remedy for check in found):
        return
    event_id, _ = checkup.send_signed(stack.webhook_url, stack.signing_secrets[0])
    yield from checkup.check_way(
        event_id,
        lambda name: (folder / "events" / f"{name}.json").exists(),
        f"{PLACE.command('trace', before=f' EVENT={event_id}')} tells where it stays.",
        PATIENCE_SECONDS,
    )


if __name__ == "__main__":
    sys.exit(main())
