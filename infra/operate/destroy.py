"""`make destroy`: take an installation down, with everything that it stores."""

import os
import sys

from rich.console import Console

from operate import package
from operate.cloud import BUILD, Cloud, read_installation
from operate.console import UsageError, confirm, run


def main() -> int:
    return run(_destroy)


def _destroy(console: Console) -> int:
    where = read_installation(os.environ)
    cloud = Cloud(where)
    cloud.begin_terraform()
    unread = dict.fromkeys(where.secrets, "1")
    plan = cloud.plan(package.build(BUILD), unread, "-destroy")
    if cloud.protected_from(plan):
        raise UsageError(
            f"{where.environment} is protected, so nothing was changed. To take it down for good:"
            f" set deletion_protection = false in infra/envs/{where.environment}.tfvars, make"
            " deploy, and make destroy again."
        )
    word = f"destroy-{where.environment}" if where.environment == "prod" else "yes"
    confirm(console, os.environ, "Delete all of this, with every scan that is stored?", word)
    cloud.apply(plan)
    console.print(
        f"\nLeft are the project's APIs and gs://{where.state_bucket}. Delete the endpoint in"
        " Dimmy's dashboard, too.",
        markup=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
