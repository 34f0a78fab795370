"""`make plan` and `make deploy`: show what would change, and change it once somebody agrees."""

import os
import sys
from pathlib import Path

from rich.console import Console

from operate import package
from operate.cloud import BUILD, Cloud, read_installation
from operate.console import UsageError, confirm, run


def main() -> int:
    return run(_plan if sys.argv[1:] == ["--plan"] else _deploy)


def _plan(console: Console) -> int:
    cloud = Cloud(read_installation(os.environ))
    _show_plan(cloud, console)
    return 0


def _deploy(console: Console) -> int:
    cloud = Cloud(read_installation(os.environ))
    plan = _show_plan(cloud, console)
    confirm(console, os.environ, "Make these changes?")
    cloud.apply(plan)
    outputs = cloud.outputs()
    where = cloud.installation
    console.print(
        f"\n{where.environment} is deployed in {where.project}. The webhook URL:\n\n"
        f"    {outputs['webhook_url']}\n\n"
        "If it is not in Dimmy's dashboard yet, three clicks are left there:\n"
        "  1. Account & Limits, Webhooks, Add Endpoint: paste the URL.\n"
        "  2. Subscribe it to items.scanned, and create it.\n"
        "  3. Reveal its signing secret, and give it to: make secrets"
        f" ENV={where.environment} PROJECT={where.project}\n"
        "     Then deploy once more, and scan.",
        markup=False,
        soft_wrap=True,
    )
    if address := outputs.get("load_balancer_address"):
        console.print(f"The domain's A record has to say {address}.", markup=False)
    return 0


def _show_plan(cloud: Cloud, console: Console) -> Path:
    archive = package.build(BUILD)
    console.print(f"Package: {archive.name}", markup=False)
    versions = cloud.newest_versions()
    cloud.begin_terraform()
    plan = cloud.plan(archive, versions)
    if protected := cloud.protected_from(plan):
        raise UsageError(
            f"This would delete {', '.join(protected)}, which deletion_protection forbids, so"
            " nothing was changed. Something in it cannot be changed where it is, such as the"
            " region or a name."
        )
    return plan


if __name__ == "__main__":
    sys.exit(main())
