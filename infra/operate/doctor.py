"""`make doctor ENV=...`: look at an installation before and after it is deployed.

Sends one signed event of no known shape, which comes to lie in storage as its receipt and changes
nothing else. Exit status 0 when all is fine, 1 when something is to be mended.
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from operate import checkup
from operate.checkup import Checked
from operate.cloud import Cloud, read_installation
from operate.console import CommandError, UsageError, run
from operate.story import Place
from pipeline.dimmy.settings import DEFAULT_API_URL, parse_api_key
from pipeline.receive.settings import parse_signing_secrets

PATIENCE_SECONDS = 120.0


def main() -> int:
    return run(_doctor)


def _doctor(console: Console) -> int:
    cloud = Cloud(read_installation(os.environ))
    return checkup.show(console, _checks(cloud))


def _checks(cloud: Cloud) -> Iterator[Checked]:
    where = cloud.installation
    place = Place(f" ENV={where.environment} PROJECT={where.project}", is_cloud=True)
    yield from _access(cloud, place)
    values = {}
    for name, parse in (
        ("signing_secrets", parse_signing_secrets),
        ("api_key", parse_api_key),
    ):
        value = _secret(cloud, name)
        found = list(checkup.check_form(where.secrets[name], value, parse, place.set_secret(name)))
        yield from found
        values[name] = "" if any(check.remedy for check in found) else value
    if values["api_key"]:
        yield from checkup.check_api(
            _api_url(), values["api_key"], place.set_secret("DIMMY_API_KEY")
        )
    try:
        outputs = cloud.outputs()
    except UsageError as error:
        yield Checked("what is deployed", "nothing yet", str(error))
        return
    yield from _resources(cloud, outputs, place)
    if values["signing_secrets"]:
        yield from _endpoint(cloud, outputs, values["signing_secrets"], place)


def _access(cloud: Cloud, place: Place) -> Iterator[Checked]:
    project = cloud.installation.project
    try:
        cloud.gcloud("projects", "describe", project)
    except CommandError as error:
        yield Checked("the project", str(error), "gcloud auth login, or ask for access to it.")
        return
    yield Checked("the project", f"{project} can be reached")
    bucket = f"gs://{cloud.installation.state_bucket}"
    if not cloud.exists("storage", "buckets", "describe", bucket):
        yield Checked("Terraform's state", f"{bucket} is not there", place.command("bootstrap"))


def _secret(cloud: Cloud, name: str) -> str:
    version = cloud.newest_version(name)
    if version is None:
        return ""
    secret_id = cloud.installation.secrets[name]
    return cloud.gcloud("secrets", "versions", "access", version, f"--secret={secret_id}").strip()


def _api_url() -> str:
    return os.environ.get("DIMMY_API_URL") or DEFAULT_API_URL


def _resources(cloud: Cloud, outputs: dict[str, Any], place: Place) -> Iterator[Checked]:
    """Whether what Terraform made is still there, and the push still goes to resolve."""
    remedy = f"{place.command('plan')} shows what is missing; {place.command('deploy')} mends it."
    for what, command in (
        ("the topic", ("pubsub", "topics", "describe", outputs["topic"])),
        ("the bucket", ("storage", "buckets", "describe", f"gs://{outputs['bucket']}")),
    ):
        name = command[-1].rpartition("/")[2]
        if cloud.exists(*command):
            yield Checked(what, name)
        else:
            yield Checked(what, f"{name} is not there", remedy)
    described = json.loads(
        cloud.gcloud(
            "pubsub", "subscriptions", "describe", outputs["subscription"], "--format=json"
        )
    )
    endpoint = described.get("pushConfig", {}).get("pushEndpoint", "")
    if endpoint.rstrip("/") == outputs["functions"]["resolve"]["url"].rstrip("/"):
        yield Checked("the subscription", "pushes to resolve")
    else:
        yield Checked("the subscription", f"pushes to {endpoint or 'nobody'}", remedy)


def _endpoint(
    cloud: Cloud, outputs: dict[str, Any], signing_secrets: str, place: Place
) -> Iterator[Checked]:
    url = outputs["webhook_url"]
    remedy = f"{place.command('logs', before=' SEVERITY=WARNING')} has the reason."
    found = list(checkup.check_endpoint(url, signing_secrets, remedy))
    yield from found
    if any(check.remedy for check in found):
        return
    event_id, _ = checkup.send_signed(url, parse_signing_secrets(signing_secrets)[0])
    receipt = f"gs://{outputs['bucket']}/events/{event_id}.json"
    yield from checkup.check_way(
        event_id,
        lambda _: cloud.exists("storage", "objects", "describe", receipt),
        f"{place.command('trace', before=f' EVENT={event_id}')} tells where it stays.",
        float(os.environ.get("PATIENCE_SECONDS", PATIENCE_SECONDS)),
    )


if __name__ == "__main__":
    sys.exit(main())
