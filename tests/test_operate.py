"""What `make` does with an installation: the right calls, in the right order, and nothing after a
failure. gcloud and terraform are stand-ins here that write down their calls.

One of them: .venv/bin/pytest tests/test_operate.py -k deploy
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import wait_for
from operate.cloud import ROOT
from operating import (
    API_KEY,
    DEPLOYED,
    Endpoint,
    Operator,
    deleting,
    letters,
    receipts,
    series,
    written_as_gcloud_reads_it,
)
from sandbox.stack import new_secret

GCLOUD = shutil.which("gcloud")


def test_deploy_packages_plans_applies_and_says_what_is_left(operator: Operator) -> None:
    assert operator.run("deploy", YES="1") == 0

    secrets = "gcloud secrets versions list dimmy-dev"
    assert operator.steps[:2] == [f"{secrets}-api-key", f"{secrets}-signing-secrets"]
    assert operator.verbs[2:] == ["init", "plan", "show", "apply", "init", "output"]
    init, plan, _show, apply = operator.calls[2:6]
    assert init[1:-1] == [
        f"-chdir={operator.tree}/infra",
        "init",
        "-input=false",
        "-reconfigure",
        "-backend-config=envs/dev.gcs.tfbackend",
        "-backend-config=bucket=warehouse-1-dimmy-terraform-state",
    ]
    (archive,) = (operator.tree / ".build").glob("dimmy-*.zip")
    build = operator.tree / ".build" / "warehouse-1-dev"
    assert plan[3:-1] == [
        "-input=false",
        "-var-file=envs/dev.tfvars",
        "-var=project=warehouse-1",
        f"-var=archive=../.build/{archive.name}",
        '-var=secret_versions={"api_key": "3", "signing_secrets": "3"}',
        f"-out={build}/plan",
    ]
    assert apply[2:-1] == ["apply", "-input=false", f"{build}/plan"]
    assert "https://receive.a.run.app" in operator.said
    assert "make secrets ENV=dev PROJECT=warehouse-1" in operator.said


def test_plan_changes_nothing(operator: Operator) -> None:
    assert operator.run("deploy --plan") == 0

    assert operator.verbs[2:] == ["init", "plan", "show"]


@pytest.mark.parametrize(
    ("typed", "status", "last"), [("yes", 0, "output"), ("no", 2, "show"), ("", 2, "show")]
)
def test_a_deployment_waits_for_a_yes(
    operator: Operator, typed: str, status: int, last: str
) -> None:
    assert operator.type("deploy", typed) == status

    assert operator.verbs[-1] == last
    assert ("Nothing was changed" in operator.said) == (status == 2)


def test_without_a_terminal_nothing_changes_unless_yes_is_said_beforehand(
    operator: Operator,
) -> None:
    assert operator.run("deploy") == 2

    assert operator.verbs[-1] == "show"
    assert "YES=1" in operator.said


@pytest.mark.parametrize(
    "failing", ["versions list", "terraform init", "terraform plan", "terraform apply"]
)
def test_nothing_is_called_after_a_failure(operator: Operator, failing: str) -> None:
    operator.answer((failing, "permission denied by the stand-in", 1))

    assert operator.run("deploy", YES="1") == 1

    assert all(word in " ".join(operator.calls[-1]) for word in failing.split())
    assert "permission denied by the stand-in" in operator.said
    assert "receive.a.run.app" not in operator.said


def test_a_secret_without_a_value_stops_a_deployment_before_it_begins(operator: Operator) -> None:
    operator.answer(("versions list signing-secrets", "", 0))

    assert operator.run("deploy", YES="1") == 2

    assert "dimmy-dev-signing-secrets has no value yet: make secrets" in operator.said
    assert not any(call[0] == "terraform" for call in operator.calls)


def test_bootstrap_makes_what_has_to_be_there_first(operator: Operator) -> None:
    operator.answer(("buckets describe", "ERROR: (gcloud) 404: not found", 1))

    assert operator.run("bootstrap", YES="1") == 0

    state = "gs://warehouse-1-dimmy-terraform-state"
    assert operator.steps[0].startswith(
        "gcloud services enable cloudresourcemanager.googleapis.com"
    )
    assert operator.steps[1:4] == [
        f"gcloud storage buckets {verb} {state}" for verb in ("describe", "create", "update")
    ]
    create = operator.call("create", state)
    assert {"--location=europe-west1", "--public-access-prevention"} <= set(create)
    assert operator.verbs[4:] == ["init", "plan", "apply"]
    plan = operator.call("plan")
    assert {
        "-target=google_logging_metric.this",
        "-target=google_secret_manager_secret.this",
        "-target=google_service_account.this",
    } <= set(plan)
    assert "make secrets ENV=dev PROJECT=warehouse-1" in operator.said


def test_bootstrap_can_be_repeated(operator: Operator) -> None:
    assert operator.run("bootstrap", YES="1") == 0

    assert not any("create" in call for call in operator.calls)


def test_bootstrap_does_not_take_a_refusal_for_an_absence(operator: Operator) -> None:
    operator.answer(("buckets describe", "ERROR: 403 no permission", 1))

    assert operator.run("bootstrap", YES="1") == 1

    assert operator.steps[-1].startswith("gcloud storage buckets describe")


def test_bootstrap_changes_nothing_before_it_has_said_what(operator: Operator) -> None:
    assert operator.type("bootstrap", "no") == 2

    assert "gs://warehouse-1-dimmy-terraform-state" in operator.said.replace("\r\n", "")
    assert operator.calls == []


def test_secrets_go_from_standard_input_to_standard_input(operator: Operator) -> None:
    secret = new_secret()

    given = f"# of the endpoint\nSIGNING_SECRETS={secret}\nDIMMY_API_KEY='{API_KEY}'\nPORT=8080\n"
    assert operator.run("secrets", given=given) == 0

    assert operator.call("dimmy-dev-signing-secrets")[-1] == secret
    assert operator.call("dimmy-dev-api-key")[-1] == API_KEY
    shown = operator.said + str([call[:-1] for call in operator.calls])
    assert secret not in shown
    assert API_KEY not in shown
    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.said


def test_secrets_are_asked_for_without_an_echo_until_their_form_is_right(
    operator: Operator,
) -> None:
    secret = new_secret()

    assert operator.type("secrets", "not-a-secret", secret, API_KEY) == 0

    assert "does not begin with whsec_" in operator.said
    assert operator.call("dimmy-dev-signing-secrets")[-1] == secret
    assert operator.call("dimmy-dev-api-key")[-1] == API_KEY
    for typed in ("not-a-secret", secret, API_KEY):
        assert typed not in operator.said


def test_enter_leaves_a_secret_as_it_is(operator: Operator) -> None:
    assert operator.type("secrets", "", API_KEY) == 0

    assert [call[4] for call in operator.calls if "add" in call] == ["dimmy-dev-api-key"]


def test_before_there_is_an_endpoint_its_secret_is_one_that_nobody_knows(
    operator: Operator,
) -> None:
    operator.answer(("versions list signing-secrets", "", 0))

    assert operator.run("secrets", given=f"DIMMY_API_KEY={API_KEY}\n") == 0

    placeholder = operator.call("add", "dimmy-dev-signing-secrets")[-1]
    assert placeholder.startswith("whsec_")
    assert placeholder not in operator.said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("SIGNING_SECRETS=whsec_c2hvcnQ=\n", "SIGNING_SECRETS secret 1 of 1 is a key of 5 bytes"),
        ("DIMMY_API_KEY=<your key>\n", "DIMMY_API_KEY does not look like an API key"),
        ("", "No value was given"),
    ],
)
def test_a_secret_of_the_wrong_form_is_never_stored(
    operator: Operator, given: str, said: str
) -> None:
    assert operator.run("secrets", given=given) == 2

    assert said in operator.said
    assert operator.calls == []


def test_destroy_shows_asks_and_deletes(operator: Operator) -> None:
    assert operator.type("destroy", "yes") == 0

    assert operator.verbs == ["init", "plan", "show", "apply"]
    assert "-destroy" in operator.call("plan")


def test_destroy_leaves_a_protected_installation_alone(operator: Operator) -> None:
    operator.answer(("terraform show", deleting("google_storage_bucket.data", "PREVENT"), 0))

    assert operator.run("destroy", ENV="prod", YES="1") == 2

    assert "deletion_protection = false" in operator.said
    assert operator.verbs == ["init", "plan", "show"]


def test_deploy_refuses_a_plan_that_deletes_what_is_protected(operator: Operator) -> None:
    operator.answer(("terraform show", deleting("google_storage_bucket.data", "PREVENT"), 0))

    assert operator.run("deploy", YES="1") == 2

    assert "This would delete google_storage_bucket.data" in operator.said
    assert operator.verbs[-1] == "show"


def test_deploy_may_replace_what_is_not_protected(operator: Operator) -> None:
    operator.answer(("terraform show", deleting("google_cloud_scheduler_job.x", "DELETE"), 0))

    assert operator.run("deploy", YES="1") == 0


@pytest.mark.parametrize(
    ("typed", "last"), [("yes", "show"), ("destroy-prod", "apply")], ids=["a yes", "the word"]
)
def test_destroying_prod_takes_a_word_in_full(operator: Operator, typed: str, last: str) -> None:
    operator.type("destroy", typed, ENV="prod")

    assert operator.verbs[-1] == last


def test_destroying_prod_takes_a_person(operator: Operator) -> None:
    assert operator.run("destroy", ENV="prod", YES="1") == 2

    assert operator.verbs[-1] == "show"


def test_redrive_pushes_the_letters_to_resolve_and_holds_the_rest(operator: Operator) -> None:
    operator.answer(*letters("msg_1", "msg_2"), *receipts(msg_1="done", msg_2="partial"))

    assert operator.run("redrive", YES="1", PAUSE_SECONDS="0.1", PATIENCE_SECONDS="1") == 1

    subscription = DEPLOYED["dead_letter_subscription"]
    back = operator.call("modify-message-ack-deadline")
    assert {"--ack-ids=ack-msg_1,ack-msg_2", "--ack-deadline=0", subscription} <= set(back)
    held, push, hold = [call for call in operator.calls if "modify-push-config" in call]
    assert push[4:8] == [
        subscription,
        "--push-endpoint=https://resolve.a.run.app",
        "--push-auth-service-account=dimmy-dev-pusher@warehouse-1.iam.gserviceaccount.com",
        "--push-auth-token-audience=https://resolve.a.run.app",
    ]
    assert held[4:6] == hold[4:6] == [subscription, "--push-endpoint="]
    first = next(call for call in operator.calls if "pubsub" in call)
    assert first == held, "what pushes cannot be pulled from"
    assert "2 dead letters were there." in operator.said
    assert "msg_2  partial, 1 items open: 404: Item not found" in operator.said
    assert operator.said.rstrip().endswith("1 are left.")


def test_redrive_asks_before_it_pushes(operator: Operator) -> None:
    operator.answer(*letters("msg_1"), *receipts(msg_1="partial"))

    assert operator.type("redrive", "no") == 2

    assert not any("resolve.a.run.app" in part for call in operator.calls for part in call)


@pytest.mark.parametrize("counted", [0, 3])
def test_redrive_without_letters_pushes_nothing_and_tells_of_those_that_rest(
    operator: Operator, endpoint: Callable[..., Endpoint], counted: int
) -> None:
    operator.answer(("subscriptions pull", "[]", 0))
    monitoring = endpoint((200, series(counted)))

    status = operator.run("redrive", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url)

    assert "0 dead letters were there." in operator.said
    assert not any("resolve.a.run.app" in part for call in operator.calls for part in call)
    assert status == bool(counted)
    assert ("counted 3" in operator.said) == bool(counted)


def test_a_redrive_that_is_interrupted_holds_the_letters_again(operator: Operator) -> None:
    operator.answer(*letters("msg_1"), *receipts(msg_1="partial"))
    running = operator.start("redrive", YES="1", PAUSE_SECONDS="0.1")

    wait_for(lambda: any("resolve.a.run.app" in " ".join(call) for call in operator.calls))
    running.send_signal(2)

    assert running.wait(30) == 130
    assert "--push-endpoint=" in operator.calls[-2] or "--push-endpoint=" in operator.calls[-1]


def test_letters_without_a_receipt_are_shown_as_such(operator: Operator) -> None:
    nothing = ("storage cat", "ERROR: The following URLs matched no objects or files", 1)
    operator.answer(*letters("msg_1", "msg_2"), nothing)

    assert operator.run("redrive") == 2

    assert "msg_1  no receipt" in operator.said


def test_backfill_goes_day_by_day_and_asks_again_for_what_is_unfinished(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    done = {"seen": 5, "stored": 2, "updated": 1, "unchanged": 2, "failed": 0}
    reconcile = endpoint((503, done | {"message": "Ask again: 500."}), (200, done))
    operator.answer(
        functions=DEPLOYED["functions"] | {"reconcile": {"name": "r", "url": reconcile.url}}
    )

    assert operator.run("backfill", SINCE="2026-11-01", UNTIL="2026-11-03T12:00", YES="1") == 0

    windows = [path for path, _ in reconcile.requests]
    utc = "%3A00%3A00%2B00%3A00"
    day = f"/?start_date=2026-11-0{{}}T00{utc}&end_date=2026-11-0{{}}T{{}}{utc}"
    assert windows == [
        day.format(1, 2, "00"),
        day.format(1, 2, "00"),
        day.format(2, 3, "00"),
        day.format(3, 3, "12"),
    ]
    assert {token for _, token in reconcile.requests} == {"Bearer an-identity-token"}
    assert "15 seen, 6 stored, 3 updated, 6 unchanged, 0 failed" in operator.said
    assert "an-identity-token" not in operator.said


def test_backfill_is_honest_about_what_is_unfinished(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    reconcile = endpoint((503, {"message": "Ask again: 500."}))
    operator.answer(
        functions=DEPLOYED["functions"] | {"reconcile": {"name": "r", "url": reconcile.url}}
    )

    assert operator.run("backfill", SINCE="2026-11-01", UNTIL="2026-11-02", YES="1") == 1

    assert len(reconcile.requests) == 3
    assert "unfinished: 2026-11-01" in operator.said


def test_backfill_says_which_role_is_missing(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    reconcile = endpoint((403, {}))
    operator.answer(
        functions=DEPLOYED["functions"] | {"reconcile": {"name": "r", "url": reconcile.url}}
    )

    assert operator.run("backfill", SINCE="2026-11-01", UNTIL="2026-11-05", YES="1") == 1

    assert "roles/run.invoker" in operator.said
    assert len(reconcile.requests) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "SINCE is missing"),
        ({"SINCE": "yesterday"}, "SINCE=yesterday is no date"),
        ({"SINCE": "2026-11-02", "UNTIL": "2026-11-01"}, "Nothing lies between"),
    ],
)
def test_backfill_wants_a_window(operator: Operator, settings: dict[str, str], said: str) -> None:
    assert operator.run("backfill", **settings) == 2

    assert said in operator.said
    assert operator.calls == []


COMMANDS = (
    "bootstrap",
    "secrets",
    "deploy",
    "deploy --plan",
    "status",
    "logs",
    "trace",
    "doctor",
    "redrive",
    "destroy",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_which_installation_it_misses(operator: Operator, command: str) -> None:
    assert operator.run(command, ENV="", PROJECT="") == 2

    assert "ENV is missing: dev, prod, staging" in operator.said
    assert "PROJECT is missing" in operator.said
    assert operator.calls == []


def test_an_environment_that_there_is_not_and_a_project_that_is_none(operator: Operator) -> None:
    assert operator.run("deploy", ENV="../prod", PROJECT="My Project") == 2

    assert "ENV=../prod is none of dev, prod, staging" in operator.said
    assert "PROJECT=My Project is no project's id" in operator.said


@pytest.mark.parametrize("program", ["gcloud", "terraform"])
def test_a_program_that_is_not_installed_is_named(operator: Operator, program: str) -> None:
    (operator.programs / program).unlink()

    assert operator.run("deploy", PATH=str(operator.programs)) == 2

    assert f"{program} is not installed: https://" in operator.said


@pytest.mark.parametrize(
    "command",
    [
        "bootstrap",
        "secrets",
        "plan",
        "deploy",
        "status",
        "logs",
        "trace",
        "doctor",
        "backfill",
        "redrive",
        "destroy",
        "package",
    ],
)
def test_make_has_each_command_and_passes_on_what_it_is_told(command: str) -> None:
    """The recipe runs the module, and what stands on the command line reaches it."""
    module = "deploy --plan" if command == "plan" else command
    made = ["make", "--dry-run", command, "ENV=dev"]
    recipe = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = {"ENV": "dev", "PROJECT": "warehouse-1", "SINCE": "2026-11-01", "EVENT": "msg_1"}
    probe = ["make", "--eval=probe: ; @env", "probe", *(f"{k}={v}" for k, v in told.items())]
    exported = subprocess.run(probe, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert f"-m operate.{module}" in recipe.splitlines()[-1]
    assert {f"{name}={value}" for name, value in told.items()} <= set(exported.splitlines())


@pytest.mark.parametrize("command", ["redrive", "backfill", "status", "trace", "doctor"])
def test_make_takes_the_sandbox_where_no_environment_is_named(command: str) -> None:
    def recipe(*settings: str) -> str:
        made = ["make", "--dry-run", command, *settings]
        return subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert f"sandbox.{command}" in recipe()
    assert f"operate.{command}" in recipe("ENV=dev")


@pytest.mark.skipif(GCLOUD is None, reason="gcloud is not installed")
def test_gcloud_itself_understands_every_call(
    operator: Operator, endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """The stand-in takes anything; gcloud can tell, offline, whether it would."""
    missing = ("buckets describe", "ERROR: 404: not found", 1)
    operator.answer(missing, *letters("msg_1"), *receipts(msg_1="done"))
    monitoring = endpoint((200, {}))
    for command in ("bootstrap", "deploy", "status", "logs", "redrive"):
        operator.run(
            command,
            YES="1",
            PAUSE_SECONDS="0.1",
            CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url,
        )
    operator.run("secrets", given=f"DIMMY_API_KEY={API_KEY}\nSIGNING_SECRETS={new_secret()}\n")
    operator.run("backfill", YES="1", SINCE="2026-11-01", UNTIL="2026-11-02")
    calls = sorted({written_as_gcloud_reads_it(c) for c in operator.calls if c[0] == "gcloud"})
    commands = [{"command_string": call} for call in calls]
    (tmp_path / "calls.json").write_text(json.dumps(commands))

    assert GCLOUD
    linted = subprocess.run(
        [GCLOUD, "meta", "lint-gcloud-commands", f"--commands-file={tmp_path}/calls.json"],
        env=os.environ | {"CLOUDSDK_CONFIG": str(tmp_path / "config")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(calls) >= 14
    verdicts = json.loads(linted.stdout)
    assert len(verdicts) == len(calls)
    refused = {v["command_string"]: v["error_message"] for v in verdicts if not v["success"]}
    assert refused == {}
