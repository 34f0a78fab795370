"""Commands that deploy: the right calls in the right order, and none after a failure.

gcloud and terraform are replaced by programs that record their calls.

One of them: .venv/bin/pytest tests/operate/test_deployment.py -k bootstrap
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.stack import new_secret
from support.operator import (
    API_KEY,
    DEPLOYED,
    Endpoint,
    Operator,
    creation_plan,
    replacement_plan,
)


def test_deploy_packages_plans_applies_and_names_the_next_step(operator: Operator) -> None:
    assert operator.run("deploy", YES="1") == 0

    secrets = "gcloud secrets versions list dimmy-dev"
    assert operator.steps[:2] == [f"{secrets}-api-key", f"{secrets}-signing-secrets"]
    assert operator.verbs[2:] == ["init", "plan", "show", "apply", "init", "output"]
    init, plan, _show, apply = operator.calls[2:6]
    assert init[1:-1] == [
        f"-chdir={operator.tree}/infra",
        "init",
        "-no-color",
        "-input=false",
        "-reconfigure",
        "-backend-config=envs/dev.gcs.tfbackend",
        "-backend-config=bucket=warehouse-1-dimmy-terraform-state",
    ]
    (archive,) = (operator.tree / ".build").glob("dimmy-*.zip")
    file = plan[-2].removeprefix("-out=")
    assert re.fullmatch(rf"{operator.tree}/.build/warehouse-1-dev/plan-\w+/plan", file)
    assert not Path(file).parent.exists(), "no other command may replace or find it"
    assert plan[3:-2] == [
        "-no-color",
        "-input=false",
        "-lock-timeout=60s",
        "-var-file=envs/dev.tfvars",
        "-var=project=warehouse-1",
        f"-var=archive=../.build/{archive.name}",
        '-var=secret_versions={"api_key": "3", "signing_secrets": "3"}',
    ]
    assert apply[2:-1] == [
        "apply",
        "-no-color",
        "-input=false",
        "-lock-timeout=60s",
        file,
    ]
    assert "https://receive.a.run.app" in operator.printed
    assert "make secrets ENV=dev PROJECT=warehouse-1" in operator.printed


def test_plan_changes_nothing(operator: Operator) -> None:
    assert operator.run("plan") == 0

    assert operator.verbs[2:] == ["init", "plan", "show"]


@pytest.mark.parametrize(
    ("typed", "status", "last"), [("yes", 0, "output"), ("no", 2, "show"), ("", 2, "show")]
)
def test_deploy_applies_only_after_yes(
    operator: Operator, typed: str, status: int, last: str
) -> None:
    assert operator.type("deploy", typed) == status

    assert operator.verbs[-1] == last
    assert "-no-color" not in operator.call("plan"), "this output is for a terminal"
    assert ("Nothing was changed" in operator.printed) == (status == 2)


def test_deploy_without_a_terminal_changes_nothing_unless_yes_is_set(
    operator: Operator,
) -> None:
    assert operator.run("deploy") == 2

    assert operator.verbs[-1] == "show"
    assert "YES=1" in operator.printed


@pytest.mark.parametrize("disabled", [True, False])
def test_deploy_says_how_svix_can_call_receive_without_a_public_invoker(
    operator: Operator, disabled: bool
) -> None:
    receive = DEPLOYED["functions"]["receive"] | {"invoker": None}
    annotations = {"run.googleapis.com/invoker-iam-disabled": "true"} if disabled else {}
    service = {"metadata": {"annotations": annotations}}
    operator.set_answers(
        ("services describe", json.dumps(service), 0),
        functions=DEPLOYED["functions"] | {"receive": receive},
    )

    assert operator.run("deploy", YES="1") == (0 if disabled else 1)

    assert ("--no-invoker-iam-check" in operator.printed) != disabled


@pytest.mark.parametrize(
    "failing", ["versions list", "terraform init", "terraform plan", "terraform apply"]
)
def test_nothing_is_called_after_a_failure(operator: Operator, failing: str) -> None:
    operator.set_answers((failing, "permission denied by the recorded program", 1))

    assert operator.run("deploy", YES="1") == 1

    assert all(word in " ".join(operator.calls[-1]) for word in failing.split())
    assert "permission denied by the recorded program" in operator.printed
    assert "receive.a.run.app" not in operator.printed


def test_deploy_does_not_start_while_a_secret_has_no_value(operator: Operator) -> None:
    operator.set_answers(("versions list signing-secrets", "", 0))

    assert operator.run("deploy", YES="1") == 2

    assert "dimmy-dev-signing-secrets has no value yet: make secrets" in operator.printed
    assert not any(call[0] == "terraform" for call in operator.calls)


# One line of what `terraform apply -json` prints for each resource, and its remark about `-target`.
_APPLIED = """\
{"type": "apply_complete", "hook": {"resource": {"addr": "a"}}}
{"type": "diagnostic", "diagnostic": {"severity": "warning", "summary": "Applied changes may be \
incomplete"}}
"""


@pytest.fixture
def bootstrap(operator: Operator, endpoint: Callable[..., Endpoint]) -> Callable[..., int]:
    """Runs the command beside an API that has these answers about the service agent."""

    def run(*answers: tuple[int, object]) -> int:
        api = endpoint(*(answers or [(200, {"name": "operations/1"}), (200, {"done": True})]))
        status = operator.run(
            "bootstrap", YES="1", CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE=api.url
        )
        services = "/v1beta1/projects/warehouse-1/services"
        functions, pubsub = (
            f"{services}/{name}.googleapis.com:generateServiceIdentity"
            for name in ("cloudfunctions", "pubsub")
        )
        expected = [functions] if answers else [functions, "/v1/operations/1", pubsub]
        assert api.requests == [(path, "Bearer an-access-token") for path in expected]
        return status

    return run


def test_bootstrap_creates_what_the_first_deployment_needs(
    operator: Operator, bootstrap: Callable[..., int]
) -> None:
    operator.set_answers(
        ("buckets describe", "ERROR: (gcloud) 404: not found", 1),
        ("terraform show plan", creation_plan("google_service_account", count=2), 0),
        ("terraform apply", _APPLIED, 0),
    )

    assert bootstrap() == 0

    state = "gs://warehouse-1-dimmy-terraform-state"
    steps = operator.steps
    assert steps[0].startswith("gcloud services enable cloudfunctions.googleapis.com")
    assert "pubsub.googleapis.com" in steps[0], "its service agent is created before its topics"
    assert steps[1:4] == [
        f"gcloud storage buckets {verb} {state}" for verb in ("describe", "create", "update")
    ]
    create = operator.call("create", state)
    assert {"--location=europe-west1", "--public-access-prevention"} <= set(create)
    assert [verb for verb in operator.verbs if verb != "show"][-3:] == ["init", "plan", "apply"]
    assert "Terraform would create: 2 service accounts." in operator.printed
    assert "Applied changes may be incomplete" not in operator.printed
    plan = operator.call("plan")
    assert {
        "-target=module.dimmy.google_logging_metric.this",
        "-target=module.dimmy.google_secret_manager_secret.this",
        "-target=module.dimmy.google_service_account.this",
    } <= set(plan)
    assert "make secrets ENV=dev PROJECT=warehouse-1" in operator.printed


def test_bootstrap_can_be_repeated(operator: Operator, bootstrap: Callable[..., int]) -> None:
    assert bootstrap() == 0

    assert not any("create" in call for call in operator.calls)
    assert "apply" not in operator.verbs


def test_bootstrap_asks_for_every_agent_that_encrypts_with_a_key(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    key = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k"
    operator.add_variables(f'kms_key = "{key}"\nbigquery = true')
    agents = endpoint((200, {"done": True}))

    status = operator.run(
        "bootstrap", YES="1", CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE=agents.url
    )

    assert status == 0
    asked = {path.split("/services/")[1].partition(".")[0] for path, _ in agents.requests}
    assert asked == {
        "artifactregistry",
        "cloudfunctions",
        "eventarc",
        "logging",
        "pubsub",
        "run",
        "secretmanager",
    }
    enabled = operator.calls[0]
    assert {f"{service}.googleapis.com" for service in asked} <= set(enabled)
    assert "bigquery.googleapis.com" in enabled, "Terraform reads its agent while it plans"
    assert "-target=module.dimmy.google_kms_crypto_key_iam_member.agent" in operator.call("plan")


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([(403, {"error": "denied"})], "Service Usage answers 403"),
        ([(200, {"done": True, "error": {"message": "no such project"}})], "no such project"),
    ],
)
def test_bootstrap_creates_nothing_without_the_service_agent(
    operator: Operator,
    bootstrap: Callable[..., int],
    answers: list[tuple[int, object]],
    message: str,
) -> None:
    assert bootstrap(*answers) == 1

    assert message in operator.printed
    assert not any(call[0] == "terraform" for call in operator.calls)


def test_bootstrap_changes_nothing_that_exists(
    operator: Operator, bootstrap: Callable[..., int]
) -> None:
    plan = replacement_plan("module.dimmy.google_secret_manager_secret.this", "DELETE")
    operator.set_answers(("terraform show plan", plan, 0))

    assert bootstrap() == 2

    assert "change what exists: module.dimmy.google_secret_manager_secret.this" in operator.printed
    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.printed
    assert "apply" not in operator.verbs


def test_bootstrap_of_an_earlier_version_is_moved_as_a_whole(
    operator: Operator, bootstrap: Callable[..., int]
) -> None:
    """Terraform refuses to move resources that `-target` leaves out."""
    flat = {"values": {"root_module": {"resources": [{"address": "google_pubsub_topic.events"}]}}}
    operator.set_answers(("terraform show", json.dumps(flat), 0))

    assert bootstrap() == 2

    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.printed
    assert operator.verbs[-1] == "show"


def test_the_bucket_of_the_state_keeps_versions_after_an_interrupted_bootstrap(
    operator: Operator, bootstrap: Callable[..., int]
) -> None:
    operator.set_answers(("buckets update", "ERROR: 503 unavailable", 1, 1))
    assert bootstrap() == 1
    first = len(operator.calls)

    assert bootstrap() == 0

    assert any("--versioning" in call for call in operator.calls[first:])


def test_bootstrap_does_not_mistake_a_permission_error_for_a_missing_bucket(
    operator: Operator, bootstrap: Callable[..., int]
) -> None:
    operator.set_answers(("buckets describe", "ERROR: 403 no permission", 1))

    assert bootstrap() == 1

    assert operator.steps[-1].startswith("gcloud storage buckets describe")


def test_bootstrap_asks_before_it_changes_anything(operator: Operator) -> None:
    assert operator.type("bootstrap", "no") == 2

    assert "gs://warehouse-1-dimmy-terraform-state" in operator.printed.replace("\r\n", "")
    assert operator.calls == []


def test_secrets_are_read_from_stdin_and_passed_to_gcloud_on_stdin(operator: Operator) -> None:
    secret = new_secret()

    given = f"# of the endpoint\nSIGNING_SECRETS={secret}\nDIMMY_API_KEY='{API_KEY}'\nPORT=8080\n"
    assert operator.run("secrets", stdin=given) == 0

    assert operator.call("add", "dimmy-dev-signing-secrets")[-1] == secret
    assert operator.call("add", "dimmy-dev-api-key")[-1] == API_KEY
    shown = operator.printed + str([call[:-1] for call in operator.calls])
    assert secret not in shown
    assert API_KEY not in shown
    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.printed


def test_secrets_are_prompted_for_without_echo_until_their_format_is_valid(
    operator: Operator,
) -> None:
    secret = new_secret()

    assert operator.type("secrets", "not-a-secret", secret, API_KEY) == 0

    assert "does not begin with whsec_" in operator.printed
    assert operator.call("add", "dimmy-dev-signing-secrets")[-1] == secret
    assert operator.call("add", "dimmy-dev-api-key")[-1] == API_KEY
    for typed in ("not-a-secret", secret, API_KEY):
        assert typed not in operator.printed


@pytest.mark.parametrize(
    "refusal",
    [
        "ERROR: NOT_FOUND: Secret [projects/1/secrets/dimmy-dev-api-key] not found",
        "Secret Manager API has not been used in project 1 before or it is disabled.",
    ],
)
def test_secrets_before_bootstrap_name_it_and_ask_for_nothing(
    operator: Operator, refusal: str
) -> None:
    operator.set_answers(("secrets versions list", refusal, 1))

    assert operator.type("secrets", new_secret(), API_KEY) == 2

    assert "make bootstrap ENV=dev PROJECT=warehouse-1" in operator.printed
    assert not any("add" in call for call in operator.calls)


@pytest.mark.parametrize("command", ["plan", "deploy", "doctor"])
def test_commands_before_bootstrap_name_it(operator: Operator, command: str) -> None:
    refusal = "ERROR: NOT_FOUND: Secret [projects/1/secrets/dimmy-dev-api-key] not found"
    operator.set_answers(("secrets versions list", refusal, 1))

    assert operator.run(command) == 2

    assert "The secrets do not exist yet: make bootstrap ENV=dev" in operator.printed


@pytest.mark.parametrize("command", ["status", "backfill", "rotate", "view", "unlock", "destroy"])
def test_commands_without_a_state_name_the_first_one(operator: Operator, command: str) -> None:
    """As where PROJECT is another one than that of the deployment. Both texts are real ones."""
    told = "storage: bucket doesn't exist"
    if command == "unlock":
        told = "googleapi: Error 404: The specified bucket does not exist., notFound"
    error = f"Error: Failed to get existing workspaces: querying Cloud Storage failed: {told}"
    operator.set_answers(("terraform init", error, 1))

    assert operator.run(command, SINCE="2026-11-01") == 2

    text = " ".join(operator.printed.split())
    assert "gs://warehouse-1-dimmy-terraform-state with Terraform's state does not exist" in text
    assert "make bootstrap ENV=dev PROJECT=warehouse-1" in text


def test_an_environment_without_a_place_for_its_state_is_refused(operator: Operator) -> None:
    (operator.tree / "infra" / "envs" / "qa.tfvars").write_text('environment = "qa"')

    assert operator.run("deploy", ENV="qa") == 2

    assert "infra/envs/qa.gcs.tfbackend is missing: copy another" in operator.printed
    assert operator.calls == []


@pytest.mark.parametrize("command", ["secrets", "deploy"])
def test_ctrl_d_is_no_answer(operator: Operator, command: str) -> None:
    assert operator.type(command, "\x04") == 2

    assert "Nothing was changed." in operator.printed
    assert not {"apply", "add"} & {word for call in operator.calls for word in call}


def test_enter_leaves_a_secret_unchanged(operator: Operator) -> None:
    assert operator.type("secrets", "", API_KEY) == 0

    assert [call[4] for call in operator.calls if "add" in call] == ["dimmy-dev-api-key"]


def test_before_the_endpoint_exists_a_random_signing_secret_is_stored(
    operator: Operator,
) -> None:
    operator.set_answers(("versions list signing-secrets", "", 0))

    assert operator.run("secrets", stdin=f"DIMMY_API_KEY={API_KEY}\n") == 0

    placeholder = operator.call("add", "dimmy-dev-signing-secrets")[-1]
    assert placeholder.startswith("whsec_")
    assert placeholder not in operator.printed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("SIGNING_SECRETS=whsec_c2hvcnQ=\n", "SIGNING_SECRETS secret 1 of 1 is a key of 5 bytes"),
        ("DIMMY_API_KEY=<your key>\n", "DIMMY_API_KEY does not look like an API key"),
        ("", "No value was given"),
    ],
)
def test_a_secret_with_an_invalid_format_is_never_stored(
    operator: Operator, given: str, message: str
) -> None:
    assert operator.run("secrets", stdin=given) == 2

    assert message in operator.printed
    assert not any("add" in call for call in operator.calls)


def test_destroy_shows_the_plan_asks_and_deletes(operator: Operator) -> None:
    assert operator.type("destroy", "yes") == 0

    assert operator.verbs == ["init", "plan", "show", "apply"]
    assert "-destroy" in operator.call("plan")


def test_destroy_deletes_the_objects_of_a_bucket_before_terraform_does(
    operator: Operator,
) -> None:
    """gcloud deletes many at once, and renews its token, which Terraform cannot."""
    removed = "Removing gs://data/items/a.json#1...\nRemoving gs://data/items/b.json#2...\n"
    operator.set_answers(
        ("terraform show", _destruction_plan(data=True, kept=False), 0),
        ("storage rm", removed, 0),
    )

    assert operator.run("destroy", YES="1") == 0

    rm = operator.call("rm")
    assert rm[1:5] == ["storage", "rm", "--all-versions", "gs://data/**"]
    assert operator.verbs == ["init", "plan", "show", "storage", "apply"]


def test_destroy_keeps_what_is_left_where_objects_cannot_be_deleted(operator: Operator) -> None:
    operator.set_answers(
        ("terraform show", _destruction_plan(data=True), 0),
        ("storage rm", "ERROR: (gcloud.storage.rm) HTTPError 403: denied", 1),
    )

    assert operator.run("destroy", YES="1") == 1

    assert "HTTPError 403: denied" in operator.printed
    assert "apply" not in operator.verbs


def _destruction_plan(**buckets: bool) -> str:
    """The output of `terraform show` for a plan that deletes buckets, some by `force_destroy`."""
    changes = [
        {
            "address": f"google_storage_bucket.{name}",
            "type": "google_storage_bucket",
            "change": {
                "actions": ["delete"],
                "before": {"name": name, "force_destroy": forced, "deletion_policy": "DELETE"},
            },
        }
        for name, forced in buckets.items()
    ]
    return json.dumps({"resource_changes": changes})


def test_destroy_refuses_a_protected_installation(operator: Operator) -> None:
    operator.set_answers(
        ("terraform show", replacement_plan("google_storage_bucket.data", "PREVENT"), 0)
    )

    assert operator.run("destroy", ENV="prod", YES="1") == 2

    assert "deletion_protection = false" in operator.printed
    assert operator.verbs == ["init", "plan", "show"]


def test_deploy_refuses_a_plan_that_deletes_a_protected_resource(operator: Operator) -> None:
    operator.set_answers(
        ("terraform show", replacement_plan("google_storage_bucket.data", "PREVENT"), 0)
    )

    assert operator.run("deploy", YES="1") == 2

    assert "This would delete google_storage_bucket.data" in operator.printed
    assert operator.verbs[-1] == "show"


def test_deploy_may_replace_an_unprotected_resource(operator: Operator) -> None:
    operator.set_answers(
        ("terraform show", replacement_plan("google_cloud_scheduler_job.x", "DELETE"), 0)
    )

    assert operator.run("deploy", YES="1") == 0


@pytest.mark.parametrize(
    ("typed", "last"), [("yes", "show"), ("destroy-prod", "apply")], ids=["yes", "destroy-prod"]
)
def test_destroying_prod_requires_the_full_confirmation(
    operator: Operator, typed: str, last: str
) -> None:
    operator.type("destroy", typed, ENV="prod")

    assert operator.verbs[-1] == last


def test_destroying_prod_requires_a_terminal(operator: Operator) -> None:
    assert operator.run("destroy", ENV="prod", YES="1") == 2

    assert operator.verbs[-1] == "show"
