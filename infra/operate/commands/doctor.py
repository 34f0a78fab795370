"""`make doctor`: finds out what is wrong with an installation, before and after it is deployed.

It sends signed events of no known shape, whose receipts are stored; nothing else changes. Exit
status 0 when all is well, 1 when there is something to solve.
"""

from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console

from operate.console import UsageError, print_text, text_of
from operate.diagnosis import checks
from operate.diagnosis.refusals import Refusals
from operate.installation import Check, Installation


def run(installation: Installation, _: Mapping[str, str], console: Console) -> int:
    """Print each check as soon as it is done; return the exit status."""
    problems = _print_checks(console, _all_checks(installation))
    summary = "All is fine." if not problems else f"{problems} to solve."
    console.print(summary, style="red" if problems else "green", markup=False)
    return 1 if problems else 0


def _all_checks(installation: Installation) -> Iterator[Check]:
    yield from _complete("access", installation.check_access())
    yield from _complete("the secrets", _check_secrets(installation))
    yield from _complete("Dimmy's API", _check_api(installation))
    yield from _complete("what is deployed", installation.check_resources())
    yield from _complete("the endpoint", _check_endpoint(installation))


def _check_secrets(installation: Installation) -> Iterator[Check]:
    for secret in installation.secrets():
        yield checks.check_format(secret)


def _check_api(installation: Installation) -> Iterator[Check]:
    api = installation.api()
    if api:
        key_format = checks.check_format(api.key)
        yield key_format
        if not key_format.remedy:
            yield from checks.check_api(api)


def _complete(name: str, group: Iterable[Check]) -> Iterator[Check]:
    """The checks of a group; where one of them fails itself, that is its result.

    Raises:
        UsageError: no check makes sense before something has been done.
    """
    try:
        yield from group
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001  # for cases that nobody foresaw
        yield Check(
            name,
            f"cannot be checked: {text_of(error)}",
            "Solve this first; what depends on it was not checked.",
        )


def _check_endpoint(installation: Installation) -> Iterator[Check]:
    endpoint = installation.endpoint()
    if endpoint is None or not endpoint.signing_secrets:
        return
    yield checks.check_refusals(
        Refusals.read(installation), installation.instructions.change_secret("SIGNING_SECRETS")
    )
    logs = installation.instructions.command("logs", SEVERITY="WARNING")
    done = []
    for check in checks.check_endpoint(endpoint, f"{logs} has the reason."):
        done.append(check)
        yield check
    is_admitted = len(done) > 1  # and not refused for the address of this machine
    if is_admitted and not any(check.remedy for check in done):
        yield checks.check_delivery(
            endpoint,
            lambda event_id: event_id in installation.receipts([event_id]),
            installation.instructions,
        )


def _print_checks(console: Console, all_checks: Iterable[Check]) -> int:
    """Print the checks; return the number of problems."""
    problems = 0
    for check in all_checks:
        problems += bool(check.remedy)
        mark, style = ("WRONG", "red") if check.remedy else ("fine", "green")
        console.print(f"  {mark:<6}{check.name:<28}", style=style, end="", markup=False)
        print_text(console, check.result)
        if check.remedy:
            print_text(console, f"{'':<8}{check.remedy}")
    return problems
