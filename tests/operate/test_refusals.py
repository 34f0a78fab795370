"""What Google and Terraform refuse: each command says in a sentence what to do.

One of them: .venv/bin/pytest tests/operate/test_refusals.py -k lock
"""

import json
from collections.abc import Callable

import pytest

from support.operator import Endpoint, Operator, creation_plan, replacement_plan

_NOT_SIGNED_IN = """\
ERROR: (gcloud.config.config-helper) You do not currently have an active account selected.
Please run:

  $ gcloud auth login

to obtain new credentials."""

_LOCKED = """\
╷
│ Error: Error acquiring the state lock
│
│ Error message: writing
│ "gs://warehouse-1-dimmy-terraform-state/dimmy/dev/default.tflock" failed:
│ googleapi: Error 412: At least one of the pre-conditions you specified did
│ not hold., conditionNotMet
│ Lock Info:
│   ID:        1795632301034567
│   Path:      gs://warehouse-1-dimmy-terraform-state/dimmy/dev/default.tflock
│   Operation: OperationTypeApply
│   Who:       ops@office-3
│   Version:   1.11.4
│   Created:   2026-11-24 22:18:21.9 +0000 UTC
╵"""

_ENABLING = """\
Error 403: Cloud Scheduler API has not been used in project 123 before or it is disabled. Enable it
by visiting https://console.developers.google.com/apis/api then retry. If you enabled this API
recently, wait a few minutes for the action to propagate to our systems and retry."""


@pytest.mark.parametrize(
    "command", ["bootstrap", "secrets", "deploy", "plan", "destroy", "unlock", "rotate", "retire"]
)
def test_every_command_says_in_one_line_that_nobody_is_signed_in(
    operator: Operator, command: str
) -> None:
    operator.set_answers(("config-helper", _NOT_SIGNED_IN, 1), ("gcloud", _NOT_SIGNED_IN, 1))

    assert operator.run(command, YES="1") == 2

    assert operator.printed.splitlines() == [
        "gcloud is not signed in, or has to sign in again: gcloud auth login"
    ]
    assert not any(call[0] == "terraform" for call in operator.calls)


def test_terraform_uses_the_account_of_gcloud(operator: Operator) -> None:
    assert operator.run("deploy", YES="1", GOOGLE_OAUTH_ACCESS_TOKEN="of-another-account") == 0

    assert operator.tokens == {"an-access-token"}


def test_a_locked_state_is_explained_with_who_and_since_when(operator: Operator) -> None:
    operator.set_answers(("terraform plan", _LOCKED, 1))

    assert operator.run("deploy", YES="1") == 1

    assert (
        "The state is locked by ops@office-3 since 2026-11-24 22:18:21.9 +0000 UTC"
        " (OperationTypeApply)." in operator.printed
    )
    assert "make unlock ENV=dev PROJECT=warehouse-1" in operator.printed


def test_a_lock_is_explained_on_a_terminal_where_terraform_uses_colours(
    operator: Operator,
) -> None:
    coloured = "\n".join(f"\x1b[31m│\x1b[0m \x1b[0m{line[1:]}" for line in _LOCKED.splitlines())
    operator.set_answers(("terraform plan", coloured, 1))

    assert operator.type("deploy", "yes") == 1

    assert "locked by ops@office-3 since 2026-11-24" in " ".join(operator.printed.split())


def test_a_state_that_cannot_be_locked_is_not_taken_for_a_locked_one(operator: Operator) -> None:
    refusal = "Error: Error acquiring the state lock\n\nError message: googleapi: Error 403: denied"
    operator.set_answers(("terraform plan", refusal, 1))

    assert operator.run("deploy", YES="1") == 1

    assert "Error 403: denied" in operator.printed
    assert "make unlock" not in operator.printed


LOCK = {"ID": "", "Operation": "OperationTypeApply", "Who": "ops@office-3", "Created": "yesterday"}


def test_unlock_shows_the_lock_asks_and_removes_it(operator: Operator) -> None:
    operator.set_answers(
        ("storage cat", json.dumps(LOCK), 0), ("objects describe value", "1795632301034567", 0)
    )

    assert operator.type("unlock", "yes") == 0

    lock = "gs://warehouse-1-dimmy-terraform-state/dimmy/dev/default.tflock"
    assert operator.call("cat")[3] == lock
    assert operator.call("force-unlock")[3:-1] == ["-no-color", "-force", "1795632301034567"]
    assert "locked by ops@office-3 since yesterday" in " ".join(operator.printed.split())


def test_unlock_removes_nothing_without_an_answer_and_nothing_that_is_not_there(
    operator: Operator,
) -> None:
    operator.set_answers(("storage cat", json.dumps(LOCK), 0))
    assert operator.type("unlock", "no") == 2

    operator.set_answers(("objects describe", "ERROR: 404 not found", 1))
    assert operator.run("unlock") == 0

    assert "The state is not locked." in operator.printed
    assert "force-unlock" not in operator.verbs


_DIAGNOSTIC = json.dumps(
    {"type": "diagnostic", "diagnostic": {"severity": "error", "summary": _ENABLING}}
)


@pytest.mark.parametrize(
    ("failing", "printed"),
    [
        ("terraform plan", _ENABLING),
        ("terraform apply -json", _DIAGNOSTIC),
        ("buckets create", _ENABLING),
    ],
    ids=lambda value: value.split()[1] if value[0].islower() else "",
)
def test_bootstrap_waits_until_an_api_is_known_everywhere(
    operator: Operator, endpoint: Callable[..., Endpoint], failing: str, printed: str
) -> None:
    operator.set_answers(
        (failing, printed, 1, 2),
        ("buckets describe", "ERROR: 404 not found", 1),
        ("terraform show plan", creation_plan("google_service_account"), 0),
    )
    agents = endpoint((200, {"done": True}))

    status = operator.run(
        "bootstrap",
        YES="1",
        PAUSE_SECONDS="0.1",
        CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE=agents.url,
    )

    assert status == 0, operator.printed
    assert "Google is still enabling the Cloud Scheduler API" in operator.printed
    calls = [call for call in operator.calls if set(failing.split()) <= set(call)]
    assert len(calls) == 3


def test_deploy_plans_and_applies_again_while_an_api_is_being_enabled(operator: Operator) -> None:
    operator.set_answers(("terraform apply", _ENABLING, 1, 1))

    assert operator.run("deploy", YES="1", PAUSE_SECONDS="0.1") == 0

    assert operator.verbs[2:7] == ["init", "plan", "show", "apply", "plan"]


@pytest.mark.parametrize(
    "api",
    [
        "Cloud Pub/Sub API",
        "Identity and Access Management (IAM) API",
        "Cloud Key Management Service (KMS) API",
    ],
)
def test_an_api_is_recognised_by_its_name(operator: Operator, api: str) -> None:
    refusal = _ENABLING.replace("Cloud Scheduler API", api)
    operator.set_answers(("terraform apply", refusal, 1, 1))

    assert operator.run("deploy", YES="1", PAUSE_SECONDS="0.1") == 0

    assert f"Google is still enabling the {api}" in operator.printed


_FUNCTION = "module.dimmy.google_cloudfunctions2_function.this"


def test_deploy_replaces_a_function_that_it_has_created_in_part(operator: Operator) -> None:
    """Terraform marks such a function as tainted."""
    replaced = json.loads(replacement_plan(_FUNCTION, "DELETE"))
    created = json.loads(creation_plan("google_cloudfunctions2_function"))
    created["resource_changes"][0]["address"] = _FUNCTION
    operator.set_answers(
        ("terraform apply", _FRESH_ROLE, 1, 1),
        ("terraform show", json.dumps(created), 0, 1),
        ("terraform show", json.dumps(replaced), 0),
    )

    assert operator.run("deploy", YES="1", PAUSE_SECONDS="0.1") == 0, operator.printed

    assert operator.verbs.count("apply") == 2


_FRESH_GRANT = """\
╷
│ Error: Error creating Subscription: googleapi: Error 403: The caller does not have permission
│
│   with module.dimmy.google_pubsub_subscription.bigquery["item-versions-bigquery"],
│   on modules/dimmy/bigquery.tf line 124, in resource "google_pubsub_subscription" "bigquery":
│  124: resource "google_pubsub_subscription" "bigquery" {
│
╵"""


def test_deploy_waits_until_pubsub_may_write_into_bigquery(operator: Operator) -> None:
    both = _FRESH_GRANT + "\n" + _FRESH_GRANT.replace("item-versions", "event-attempts")
    operator.set_answers(("terraform apply", both, 1, 2))

    assert operator.run("deploy", YES="1", PAUSE_SECONDS="0.1") == 0

    assert "Pub/Sub does not know its role on the BigQuery dataset yet" in operator.printed
    assert operator.verbs.count("apply") == 3


_FRESH_METRIC = """\
Error: Error creating AlertPolicy: googleapi: Error 404: Cannot find metric(s) that match type =\
 "logging.googleapis.com/user/dimmy-dev-refused-photos". If a metric was created recently, it could\
 take up to 10 minutes to become available. Please try again soon."""
_FRESH_ACCOUNT = """\
Error: Error applying IAM policy for pubsub topic: googleapi: Error 400: Service account\
 dimmy-dev-archiver@warehouse-1.iam.gserviceaccount.com does not exist., badRequest"""
_FRESH_AGENT = _FRESH_ACCOUNT.replace("dimmy-dev-archiver@warehouse-1", "service-1@gcp-sa-logging")
_FRESH_ROLE = """\
Error: Error waiting to create function: Error waiting for Creating function: Error code 7,\
 message: Unable to retrieve the repository metadata for\
 projects/warehouse-1/locations/europe-west1/repositories/dimmy-dev-functions."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (_FRESH_METRIC, "the new metric dimmy-dev-refused-photos yet"),
        (
            _FRESH_METRIC.replace("metric(s) that match", "metric that matches"),
            "the new metric dimmy-dev-refused-photos yet",
        ),
        (_FRESH_ACCOUNT, "the new account dimmy-dev-archiver@warehouse-1 yet"),
        (_FRESH_AGENT, "the new account service-1@gcp-sa-logging yet"),
        (_FRESH_ROLE, "Cloud Functions does not have its role in this project yet"),
        (f"{_FRESH_ACCOUNT}\n{_FRESH_METRIC}", "the new account dimmy-dev-archiver@warehouse-1"),
    ],
    ids=["metric", "metric, before 2026", "account", "agent", "role", "both"],
)
def test_deploy_waits_for_what_it_has_just_created(
    operator: Operator, error: str, reason: str
) -> None:
    operator.set_answers(("terraform apply", error, 1, 2))

    assert operator.run("deploy", YES="1", PAUSE_SECONDS="0.1") == 0

    assert reason in operator.printed
    assert operator.verbs.count("apply") == 3


@pytest.mark.parametrize(
    "error",
    [
        _FRESH_METRIC.replace("logging.googleapis.com/user/dimmy", "run.googleapis.com/dimmy"),
        _FRESH_METRIC.replace("user/dimmy", "user/other"),
        _FRESH_ACCOUNT.replace("dimmy-dev-archiver", "robot"),
    ],
    ids=["a metric of Google's", "another metric", "another account"],
)
def test_what_it_has_not_created_is_not_waited_for(operator: Operator, error: str) -> None:
    operator.set_answers(("terraform apply", error, 1))

    assert operator.run("deploy", YES="1", PAUSE_SECONDS="60") == 1

    assert operator.verbs.count("apply") == 1


@pytest.mark.parametrize(
    "error",
    [
        _FRESH_GRANT.replace("subscription.bigquery[", "subscription.subscriber["),
        _FRESH_GRANT.replace("The caller does", "User not authorized to"),
        f"{_FRESH_GRANT}\n│ Error: Permission denied on resource",
    ],
    ids=["another subscription", "another text", "another error beside it"],
)
def test_other_refused_subscriptions_are_not_waited_for(operator: Operator, error: str) -> None:
    operator.set_answers(("terraform apply", error, 1))

    assert operator.run("deploy", YES="1", PAUSE_SECONDS="60") == 1

    assert operator.verbs.count("apply") == 1


def test_what_nobody_has_confirmed_is_not_applied_after_the_wait(operator: Operator) -> None:
    operator.set_answers(
        ("terraform apply", _ENABLING, 1, 1),
        ("terraform show", creation_plan("google_pubsub_topic"), 0, 1),
        ("terraform show", replacement_plan("google_storage_bucket.data", "DELETE"), 0),
    )

    assert operator.run("deploy", YES="1", PAUSE_SECONDS="0.1") == 2

    assert "Something else would change now: google_storage_bucket.data" in operator.printed
    assert operator.verbs.count("apply") == 1


@pytest.mark.parametrize(
    "error",
    [
        "Error 403: Permission denied on resource",
        f"Error: {_ENABLING}\n\nError: Permission denied on resource",
    ],
    ids=["alone", "beside the other"],
)
def test_another_error_is_not_waited_for(operator: Operator, error: str) -> None:
    operator.set_answers(("terraform apply", error, 1))

    assert operator.run("deploy", YES="1", PAUSE_SECONDS="60") == 1

    assert operator.verbs[-1] == "apply"


# What a first deployment creates: the function, and the grant.
_PUBLIC = json.dumps(
    {
        "resource_changes": [
            *json.loads(creation_plan("google_cloud_run_service_iam_member", member="allUsers"))[
                "resource_changes"
            ],
            {
                "address": 'module.dimmy.google_cloudfunctions2_function.this["receive"]',
                "change": {"actions": ["create"], "before": None, "after": {}},
            },
        ]
    }
)

POLICIES = [
    ({"listPolicy": {"allowedValues": ["C0123abc"]}}, True),
    ({"listPolicy": {"allValues": "DENY"}}, True),
    ({"listPolicy": {"allValues": "ALLOW"}}, False),
    ({}, False),
]


@pytest.mark.parametrize(("policy", "forbids"), POLICIES)
def test_deploy_reads_the_policy_of_the_organisation_before_it_begins(
    operator: Operator, endpoint: Callable[..., Endpoint], policy: object, forbids: bool
) -> None:
    operator.set_answers(("terraform show", _PUBLIC, 0))
    manager = endpoint((200, policy))

    status = operator.run(
        "deploy", YES="1", CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER=manager.url
    )

    assert manager.requests[0][0] == "/v1/projects/warehouse-1:getEffectiveOrgPolicy"
    assert status == (2 if forbids else 0)
    assert ("apply" in operator.verbs) != forbids
    if forbids:
        assert "public_invoker = false in infra/envs/dev.tfvars" in operator.printed
        assert (
            "gcloud run services update dimmy-dev-receive --no-invoker-iam-check"
            " --region=europe-west1 --project=warehouse-1" in operator.printed
        )
        assert "gcloud org-policies reset iam.allowedPolicyMemberDomains" in operator.printed


def test_a_service_that_exists_may_be_exempt_of_the_policy(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    public = creation_plan("google_cloud_run_service_iam_member", member="allUsers")
    operator.set_answers(("terraform show", public, 0))
    manager = endpoint((200, {"listPolicy": {"allowedValues": ["C0123abc"]}}))

    status = operator.run(
        "deploy", YES="1", CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER=manager.url
    )

    assert status == 0
    assert "Unless the service is exempt" in operator.printed


def test_a_refusal_of_the_grant_is_explained_where_the_policy_cannot_be_read(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    public = creation_plan("google_cloud_run_service_iam_member", member="allUsers")
    refusal = (
        "Error 400: One or more users named in the policy do not belong to a permitted customer"
    )
    operator.set_answers(("terraform show", public, 0), ("terraform apply", refusal, 1))
    manager = endpoint((403, {"error": "denied"}))

    status = operator.run(
        "deploy", YES="1", CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER=manager.url
    )

    assert status == 1
    assert "--no-invoker-iam-check" in operator.printed


def test_a_subscription_whose_topic_was_deleted_is_not_replaced_with_what_waits_in_it(
    operator: Operator,
) -> None:
    plan = replacement_plan(
        "google_pubsub_subscription.resolve",
        "PREVENT",
        name="dimmy-dev-resolve",
        topic="_deleted-topic_",
    )
    operator.set_answers(("terraform show", plan, 0))

    assert operator.run("deploy", YES="1") == 2

    assert "The topic of dimmy-dev-resolve has been deleted" in operator.printed
    assert (
        "gcloud pubsub subscriptions delete dimmy-dev-resolve --project=warehouse-1"
        in operator.printed
    )
    assert "make backfill SINCE=... ENV=dev" in operator.printed
    assert "apply" not in operator.verbs


@pytest.mark.parametrize(
    ("name", "advice"),
    [("recieve_instances", " Is receive_instances meant?"), ("unlike_any_other", "")],
)
def test_a_variable_that_does_not_exist_is_named(
    operator: Operator, name: str, advice: str
) -> None:
    """Terraform only warns of it, and would deploy the default."""
    operator.add_variables(f"{name} = 1")

    for command in ("plan", "deploy"):
        assert operator.run(command) == 2
        printed = " ".join(operator.printed.split())
        expected = f"infra/envs/dev.tfvars sets {name}, which infra/variables.tf does not have."
        assert printed.endswith(expected + advice)
    assert "plan" not in operator.verbs


def test_a_file_of_variables_that_cannot_be_read_is_named(operator: Operator) -> None:
    operator.variables.write_text('environment = "dev"\nregion = = "x"\n')

    assert operator.run("deploy") == 2

    assert "infra/envs/dev.tfvars, line 2 cannot be read" in operator.printed
