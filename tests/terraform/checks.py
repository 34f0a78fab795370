"""The checks of a folder such as `infra/`. Each check raises CheckError, which names the problem.

The folder has the module in `modules/dimmy`, and a root that passes the module's variables and
outputs on.

`check_all` runs them all; `mutants.py` measures how many faults they detect.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from operate.console import UsageError
from operate.google.deployment import ROOT, read_variables
from pipeline.archive.settings import read_archive_settings
from pipeline.environment import SettingsError
from pipeline.receive import sources
from pipeline.receive.settings import read_receive_settings
from pipeline.reconcile.settings import read_reconcile_settings
from pipeline.resolve.settings import read_resolve_settings
from support.programs import CHECKOV
from terraform.provider import SCHEMA, GoogleProvider
from terraform.renew_schema import used_in

Plan = dict[str, dict[str, Any]]  # by address: the planned attributes of each resource
Plans = dict[str, Plan]  # by the name of the run of `terraform test`

PUBSUB_AGENT = "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
_LOGGING_AGENT = "serviceAccount:service-123456789012@gcp-sa-logging.iam.gserviceaccount.com"

# All roles by member: on which resource, and for which objects of a bucket. Others are faults.
ROLES = {
    "allUsers": {"run.invoker on dimmy-test-receive"},
    "builder": {
        "artifactregistry.writer on dimmy-test-functions",
        "logging.logWriter on warehouse-1",
        "storage.objectViewer on warehouse-1 for gcf-v2-sources-",
        "storage.objectViewer on warehouse-1-dimmy-test-sources",
    },
    "pusher": {"run.invoker on dimmy-test-resolve"},
    "receiver": {
        "pubsub.publisher on dimmy-test-events",
        "secretmanager.secretAccessor on dimmy-test-signing-secrets",
        "storage.objectUser on data for data/objects/payloads/",
    },
    "reconciler": {
        "secretmanager.secretAccessor on dimmy-test-api-key",
        "storage.legacyBucketReader on data",
        "storage.objectUser on data for data/objects/items/, data/objects/reconcile/",
    },
    "resolver": {
        "secretmanager.secretAccessor on dimmy-test-api-key",
        "storage.legacyBucketReader on data",
        "storage.objectUser on data for data/objects/events/, data/objects/items/",
        "storage.objectViewer on data for data/objects/payloads/",
    },
    "scheduler": {"run.invoker on dimmy-test-reconcile"},
    PUBSUB_AGENT: {
        "iam.serviceAccountOpenIdTokenCreator on pusher@warehouse-1.iam.gserviceaccount.com",
        "pubsub.publisher on dimmy-test-dead-letters",
        "pubsub.subscriber on dimmy-test-resolve",
    },
}

# The subscriptions of everything that is optional and delivers items.
_ITEM_SUBSCRIPTIONS = (
    "archive",
    "event-attempts-bigquery",
    "item-versions-bigquery",
    "subscriber-wms",
)

# What everything that is optional and stores or delivers items adds.
_ROLES_OF_ITEMS = {
    "archiver": {
        "storage.legacyBucketReader on data",
        "storage.objectCreator on data for data/objects/photos/",
        "storage.objectViewer on data for data/objects/items/, data/objects/photos/",
    },
    "pusher": {"run.invoker on dimmy-test-archive"},
    "reconciler": {"pubsub.publisher on dimmy-test-item-versions"},
    "resolver": {"pubsub.publisher on dimmy-test-item-versions"},
    _LOGGING_AGENT: {"pubsub.publisher on dimmy-test-event-attempts"},
    PUBSUB_AGENT: {
        "bigquery.dataEditor on dimmy_test",
        "iam.serviceAccountOpenIdTokenCreator on notifier@warehouse-1.iam.gserviceaccount.com",
        *(f"pubsub.publisher on dimmy-test-{name}-dead-letters" for name in _ITEM_SUBSCRIPTIONS),
        *(f"pubsub.subscriber on dimmy-test-{name}" for name in _ITEM_SUBSCRIPTIONS),
    },
}

# What a key of one's own adds to that.
_ROLES_ON_KEY = {
    f"serviceAccount:{account}": {"cloudkms.cryptoKeyEncrypterDecrypter on scans"}
    for account in (
        "bq-123456789012@bigquery-encryption.iam.gserviceaccount.com",
        "service-123456789012@gcf-admin-robot.iam.gserviceaccount.com",
        "service-123456789012@gcp-sa-artifactregistry.iam.gserviceaccount.com",
        "service-123456789012@gcp-sa-eventarc.iam.gserviceaccount.com",
        "service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com",
        "service-123456789012@gcp-sa-secretmanager.iam.gserviceaccount.com",
        "service-123456789012@gs-project-accounts.iam.gserviceaccount.com",
        "service-123456789012@serverless-robot-prod.iam.gserviceaccount.com",
    )
}

ROLES_WITH_KEY: dict[str, set[str]] = defaultdict(set)
for _roles in (ROLES, _ROLES_OF_ITEMS, _ROLES_ON_KEY):
    for _member_name, _granted_roles in _roles.items():
        ROLES_WITH_KEY[_member_name] |= _granted_roles

_SETTINGS_READERS: dict[str, Callable[[Mapping[str, str]], object]] = {
    "archive": read_archive_settings,
    "receive": read_receive_settings,
    "resolve": read_resolve_settings,
    "reconcile": read_reconcile_settings,
}

_MODULE = "modules/dimmy"
_ROOT_VARIABLES = ("github_repository", "labels")  # of another module, and of the provider
_PROVIDER = "module.github[0].google_iam_workload_identity_pool_provider.this"
_ROLES_OF_OPTIONS = {
    "deployer": {"bigquery.admin", "compute.admin"},
    "planner": {"bigquery.metadataViewer", "compute.viewer"},
}
_READS = re.compile(
    r"(reader|[vV]iewer|securityReviewer) on warehouse-1$"
    r"|storage.objectViewer on warehouse-1-dimmy-(terraform-state|test-sources)$"
)
_CONDITION = (
    'assertion.repository == "warehouse-company/dimmy" &&'
    ' (!has(assertion.environment) || assertion.ref == "refs/heads/main")'
)
_USER_MANAGED = re.compile(r"^    user_managed \{\n.*?^    \}\n", re.MULTILINE | re.DOTALL)
_REPLACED_WITH = "replace_triggered_by = [google_cloudfunctions2_function.this[each.key].id]"
# What is in a bucket or a dataset, and who may use it. Another one of the same name has neither.
_CONTAINER = re.compile(
    r"^  (?:bucket|dataset_id) += (google_\w+\.\w+(?:\[0\])?)\.(?:name|dataset_id)$", re.MULTILINE
)
_INVALID_VALUES = "variables.tftest.hcl"
_RESOURCE = re.compile(r'^resource "(\w+" "\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
_QUOTA_PROJECT = re.compile(
    r"^  user_project_override += var\.budget == null \? null : true\n"
    r"  billing_project += var\.budget == null \? null : var\.project$",
    re.MULTILINE,
)

# A group cannot be deleted while the backend service uses it. A function that could not be created
# still exists under its name, which a new one needs.
_ORDER_OF_REPLACEMENT = {
    'google_compute_region_network_endpoint_group.receive["this"]': ["create", "delete"],
    'google_cloudfunctions2_function.this["receive"]': ["delete", "create"],
}

_FORMER = Path(__file__).with_name("before_items_topic.json")

# The external tables and the notifications hold no data.
_CHANGED_BY_UPGRADE = {
    "delete": {
        'google_bigquery_table.lines["event_lines"]',
        'google_bigquery_table.lines["item_lines"]',
        "google_pubsub_topic.items[0]",
        "google_pubsub_topic_iam_member.storage_publishes_items[0]",
        "google_storage_notification.items[0]",
    },
    "update": {
        'google_bigquery_table.view["events"]',
        'google_bigquery_table.view["items"]',
        'google_cloudfunctions2_function.this["reconcile"]',
        'google_cloudfunctions2_function.this["resolve"]',
        "google_bigquery_dataset.scans[0]",
        "google_monitoring_dashboard.this",
    },
}

# What has to exist before a resource, although no attribute of it refers to it.
_DEPENDENCIES = {
    "cloudfunctions2_function.this": "google_pubsub_topic_iam_member.function_publishes_items",
    "pubsub_subscription.bigquery": "google_bigquery_dataset_iam_member.agent_writes_rows",
}

_SERVER_SETTINGS = {"THREADS"}  # read by the server, not by the function
_SANDBOX_SETTINGS = {"PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"}
# Needed only on machines outside of Google Cloud.
_MACHINE_SETTINGS = {"CURL_CA_BUNDLE", "GOOGLE_APPLICATION_CREDENTIALS", "REQUESTS_CA_BUNDLE"}


class CheckError(AssertionError):
    """A check found a problem in `infra/`."""


def check_all(folder: Path, provider: GoogleProvider) -> None:
    """Run every check, the quick ones first."""
    check_formatting(folder)
    check_validity(folder, provider)
    check_root(folder)
    check_github(folder, provider)
    plans = check_behaviour(folder, provider)
    check_schema(folder)
    check_roles(plans)
    check_settings(plans)
    check_sources(plans)
    check_stability(folder, plans)
    check_secrets(folder, plans)
    check_invalid_values(folder, provider)
    for environment in sorted((folder / "envs").glob("*.tfvars")):
        check_environment(folder, provider, environment)
    check_upgrade(folder, provider)
    check_upgrade_of_items(folder, provider)


def check_formatting(folder: Path) -> None:
    """Check the formatting, with `terraform fmt`."""
    _require_success(_terraform(folder, "fmt", "-check", "-recursive", "-no-color"))


def format_folder(folder: Path) -> None:
    """Format the files, with `terraform fmt`."""
    _require_success(_terraform(folder, "fmt", "-recursive"))


def check_validity(folder: Path, provider: GoogleProvider) -> None:
    """Check names, types, references and values, with `terraform validate`; the examples', too."""
    for each in (folder, *sorted((folder / "examples").glob("*/"))):
        _require_success(_terraform(each, "validate", "-no-color", provider=provider))


def check_with_installed_provider(folder: Path, command: str = "validate", *options: str) -> None:
    """Run `terraform validate` or `test` with the provider that `terraform init` installs."""
    for arguments in (("init", "-input=false", "-backend=false"), (command, *options)):
        done = subprocess.run(
            ["terraform", f"-chdir={folder}", arguments[0], "-no-color", *arguments[1:]],
            env=os.environ | {"CHECKPOINT_DISABLE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        _require_success(done)


def check_root(folder: Path) -> None:
    """Check that the root has the module's variables and outputs, and passes them on."""
    module = folder / _MODULE
    types = [_types_of_variables(each / "variables.tf") for each in (folder, module)]
    for name in _ROOT_VARIABLES:
        types[0].pop(name)
    blocks = re.split(r"^variable ", (folder / "variables.tf").read_text(), flags=re.MULTILINE)
    own = tuple(f'"{name}"' for name in _ROOT_VARIABLES)
    undescribed = "".join(block for block in blocks if not block.startswith(own))
    defaults = set(re.findall(r"^  default += (.+)$", undescribed, re.MULTILINE))
    if defaults != {"null"}:
        raise CheckError(f"the root has defaults of its own: {sorted(defaults)}")
    if types[0] != types[1]:
        raise CheckError("the root's variables are not those of the module, or of other types")
    if not _QUOTA_PROJECT.search((folder / "versions.tf").read_text()):
        raise CheckError("a person cannot create a budget without a quota project")
    passed = re.findall(r"^  (\w+) += var\.\1$", (folder / "main.tf").read_text(), re.MULTILINE)
    if passed != list(types[1]):
        raise CheckError(f"not every variable is passed on: {sorted({*types[1]} ^ {*passed})}")
    returned = re.findall(
        r"^  value += module\.dimmy\.(\w+)$", (folder / "outputs.tf").read_text(), re.MULTILINE
    )
    if returned != _names_in(module / "outputs.tf", "output"):
        raise CheckError("the root's outputs are not those of the module")
    described = re.findall(
        r'^output "(\w+)" \{\n  description', (module / "outputs.tf").read_text(), re.MULTILINE
    )
    if described != returned:
        raise CheckError("an output of the module has no description")


def check_behaviour(folder: Path, provider: GoogleProvider) -> Plans:
    """Run `terraform test` without the invalid values; return the plans of all runs."""
    files = sorted((folder / _MODULE / "tests").glob("*.tftest.hcl"))
    filters = [f"-filter=tests/{file.name}" for file in files if file.name != _INVALID_VALUES]
    return _test(folder / _MODULE, provider, *filters)


def check_github(folder: Path, provider: GoogleProvider) -> None:
    """Check which jobs of GitHub Actions may act as which account, and with which roles."""
    plans = _test(folder, provider, "-filter=tests/github.tftest.hcl")
    planned = {name: _members(plan) for name, plan in plans.items()}
    if planned["no_github"].keys() & {"deployer", "planner"}:
        raise CheckError("GitHub may deploy although no repository is set")
    pool = "projects/123456789012/locations/global/workloadIdentityPools/dimmy-test-github"
    jobs = f"principalSet://iam.googleapis.com/{pool}/attribute.job"
    expected = {
        f"{jobs}/deploy-test": {"roles/iam.workloadIdentityUser on deployer"},
        f"{jobs}/pull_request": {"roles/iam.workloadIdentityUser on planner"},
    }
    for member, roles in expected.items():
        if planned["github"].get(member) != roles:
            raise CheckError(f"{member} has {planned['github'].get(member)} instead of {roles}")
    for account, added in _ROLES_OF_OPTIONS.items():
        has = planned["github_with_options"][account] - planned["github"][account]
        if has != {f"roles/{role} on warehouse-1" for role in added}:
            raise CheckError(f"the options add {has} to the {account}")
    for role in planned["github"]["planner"]:
        if not _READS.search(role):
            raise CheckError(f"the planner has {role}")
    document = (ROOT / "infra" / "README.md").read_text()
    named = {f"roles/{role} on warehouse-1" for role in re.findall(r"`(\w+\.\w+)`", document)}
    if missing := planned["github"]["deployer"] - named:
        raise CheckError(f"infra/README.md does not name roles of the deployer: {missing}")
    condition = plans["github"][_PROVIDER]["attribute_condition"]
    if condition != _CONDITION:
        raise CheckError(f"jobs are admitted if {condition}")


def _members(plan: Plan) -> dict[str, set[str]]:
    """By member, the roles that GitHub's module grants, and on what."""
    members: dict[str, set[str]] = defaultdict(set)
    for address, after in plan.items():
        if address.startswith("module.github") and "member" in after and "role" in after:
            target = after.get("service_account_id") or after.get("bucket") or after["project"]
            target = target.rpartition("/")[2].partition("@")[0]
            member = after["member"].removeprefix("serviceAccount:").partition("@")[0]
            members[member].add(f"{after['role']} on {target}")
    return members


def check_invalid_values(folder: Path, provider: GoogleProvider) -> None:
    """Check that variables reject invalid values, and that each validation has a test."""
    for part in (folder, folder / _MODULE):
        _check_invalid_values(part, provider, is_described=part != folder)


def _check_invalid_values(folder: Path, provider: GoogleProvider, *, is_described: bool) -> None:
    declared = (folder / "variables.tf").read_text()
    names = _names_in(folder / "variables.tf", "variable")
    if names != sorted(names):
        raise CheckError("the variables are not in alphabetical order")
    tested = (folder / "tests" / _INVALID_VALUES).read_text()
    bodies = re.split(r'^variable "\w+"', declared, flags=re.MULTILINE)[1:]
    for name, body in zip(names, bodies, strict=True):
        if is_described and not ("description" in body and "type" in body):
            raise CheckError(f"the variable {name} has no description or no type")
        if "validation {" in body and f"[var.{name}]" not in tested:
            raise CheckError(f"no test has an invalid value for the variable {name}")
    _test(folder, provider, f"-filter=tests/{_INVALID_VALUES}")


def check_environment(folder: Path, provider: GoogleProvider, variables: Path) -> Plan:
    """Check an environment's variables, and that it has a backend; return its plan."""
    if not variables.with_suffix(".gcs.tfbackend").exists():
        raise CheckError(f"{variables.name} has no {variables.stem}.gcs.tfbackend beside it")
    try:
        read_variables(variables, folder / "variables.tf")
    except UsageError as error:
        raise CheckError(str(error)) from error
    options = ("-filter=tests/environment.tftest.hcl", f"-var-file={variables}")
    return _test(folder, provider, *options)["environment"]


def check_upgrade(folder: Path, provider: GoogleProvider) -> None:
    """Check that an installation from before there was a module moves into it unchanged.

    What it has can also be replaced, in an order that Google Cloud accepts.

    Its configuration was that of the module, with the root's provider, in one folder, and its
    secrets were replicated automatically, which cannot be changed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        old, new = Path(temporary, "old"), Path(temporary, "new")
        shutil.copytree(folder / _MODULE, old)
        shutil.copytree(folder, new)
        secrets = old / "secrets.tf"
        automatic, count = _USER_MANAGED.subn("    auto {}\n", secrets.read_text())
        if count != 1:
            raise CheckError("the replication of the secrets is not where it was")
        secrets.write_text(automatic)
        (old / "labels.tf").write_text('variable "labels" {\n  default = {}\n}\n')
        for each in (old, new):  # with the state in a file
            versions = (folder / "versions.tf").read_text().replace('backend "gcs" {}', "")
            (each / "versions.tf").write_text(versions)
        options = _write_variables(folder, Path(temporary))
        _require_success(_terraform(old, "apply", "-auto-approve", *options, provider=provider))
        shutil.copyfile(old / "terraform.tfstate", new / "terraform.tfstate")
        changes = _plan_changes(new, provider, *options)
        replaced = [f"-replace=module.dimmy.{address}" for address in _ORDER_OF_REPLACEMENT]
        changes_with_replaced = _plan_changes(new, provider, *options, *replaced)
    wrong = [each["address"] for each in changes if each["change"]["actions"] != ["no-op"]]
    if wrong or not all(each.get("previous_address") for each in changes):
        raise CheckError(f"an upgrade changes {wrong}, or nothing has moved")
    orders = {
        each["address"].removeprefix("module.dimmy."): each["change"]["actions"]
        for each in changes_with_replaced
    }
    for address, order in _ORDER_OF_REPLACEMENT.items():
        if orders[address] != order:
            raise CheckError(f"{address} is replaced in the wrong order: {orders[address]}")


def check_upgrade_of_items(folder: Path, provider: GoogleProvider) -> None:
    """Check what an upgrade to the topic of items deletes, changes and leaves as it is.

    From an installation with `bigquery` and `item_notifications`, the former option:
    `before_items_topic.json` has the resources of its state that have changed since.
    """
    former = json.loads(_FORMER.read_bytes())
    kinds = {(each["type"], each["name"]) for each in former}
    with tempfile.TemporaryDirectory() as temporary:
        infra, state_file = Path(temporary, "infra"), Path(temporary, "infra", "terraform.tfstate")
        shutil.copytree(folder, infra)
        versions = (folder / "versions.tf").read_text().replace('backend "gcs" {}', "")
        (infra / "versions.tf").write_text(versions)
        options = [
            "-var=project=warehouse-1",
            "-var=environment=test",
            "-var=archive=modules/dimmy/tests/archive.zip",
            "-input=false",
            "-no-color",
        ]
        _require_success(_terraform(infra, "apply", "-auto-approve", *options, provider=provider))
        state = json.loads(state_file.read_bytes())
        state["resources"] = former + [
            each for each in state["resources"] if (each["type"], each["name"]) not in kinds
        ]
        state_file.write_text(json.dumps(state))
        options.append(f"-var-file={_write_options(Path(temporary))}")
        changes = _plan_changes(infra, provider, *options)
        _require_success(_terraform(infra, "apply", "-auto-approve", *options, provider=provider))
        left = [
            each["address"]
            for each in _plan_changes(infra, provider, *options)
            if each["change"]["actions"] != ["no-op"]
        ]
        if left:
            raise CheckError(f"after an upgrade there is still something to change: {left}")
        _require_success(_terraform(infra, "plan", "-destroy", *options, provider=provider))
    _check_known_settings(changes)
    found: dict[str, set[str]] = defaultdict(set)
    for each in changes:
        action = "+".join(each["change"]["actions"])
        found[action].add(each["address"].removeprefix("module.dimmy."))
    for action, expected in _CHANGED_BY_UPGRADE.items():
        if different := found.pop(action, set()) ^ expected:
            raise CheckError(f"an upgrade does not {action} what it should: {sorted(different)}")
    if found.keys() - {"create", "no-op", "read"}:
        raise CheckError(f"an upgrade replaces something: {found}")


def _check_known_settings(changes: Sequence[Mapping[str, Any]]) -> None:
    """Google's provider cannot apply settings of an existing function that a plan does not know."""
    for each in changes:
        if each["type"] == "google_cloudfunctions2_function" and "before" in each["change"]:
            unknown = each["change"]["after_unknown"].get("service_config") or [{}]
            if each["change"]["before"] and unknown[0].get("environment_variables") is True:
                raise CheckError(f"a plan does not know the settings of {each['address']}")


def _write_options(temporary: Path) -> Path:
    """A file of variables with all that delivers items."""
    variables = temporary / "items.tfvars.json"
    variables.write_text(
        json.dumps(
            {
                "bigquery": True,
                "item_subscribers": {
                    "erp": {"endpoint": "https://erp.example.com"},
                    "wms": {"endpoint": "https://wms.example.com", "audience": "wms"},
                },
                "photos": "archive",
            }
        )
    )
    return variables


def _plan_changes(folder: Path, provider: GoogleProvider, *options: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as temporary:
        plan = f"{temporary}/plan"
        _require_success(_terraform(folder, "plan", f"-out={plan}", *options, provider=provider))
        shown = _terraform(folder, "show", "-json", plan, provider=provider)
        _require_success(shown)
    changes: list[dict[str, Any]] = json.loads(shown.stdout)["resource_changes"]
    return changes


def _write_variables(folder: Path, temporary: Path) -> list[str]:
    """Options of Terraform for an installation with all that was optional before the module."""
    variables = temporary / "all.tfvars.json"
    variables.write_text(
        json.dumps(
            {
                "project": "warehouse-1",
                "environment": "test",
                "archive": str(folder / _MODULE / "tests" / "archive.zip"),
                "alert_emails": ["warehouse-it@example.com"],
                "load_balancer": {"domain": "hooks.example.com"},
                "silence_alert_hours": 12,
            }
        )
    )
    return [f"-var-file={variables}", "-input=false", "-no-color"]


def check_schema(folder: Path) -> None:
    """Check that the replacement provider has the schemas of exactly the types in use."""
    stored = json.loads(SCHEMA.read_bytes())
    for kind, used in used_in(folder).items():
        if used != stored[kind].keys():
            different = ", ".join(sorted(used ^ stored[kind].keys()))
            raise CheckError(
                f"{SCHEMA.name} does not match infra/ ({different}): run `make provider-schema`"
            )


def check_roles(plans: Plans) -> None:
    """Check that exactly the roles in `ROLES` are granted, and with a key `ROLES_WITH_KEY`."""
    for run, expected in {"access": ROLES, "kms_key": ROLES_WITH_KEY}.items():
        granted = _granted(plans[run])
        for member in sorted(granted.keys() | expected.keys()):
            if granted[member] != expected.get(member, set()):
                raise CheckError(
                    f"{run}: {member} has other roles than expected: {sorted(granted[member])}"
                )


def _granted(plan: Plan) -> dict[str, set[str]]:
    """The roles of each member, as in `ROLES`."""
    granted = defaultdict(set)
    for address, resource in plan.items():
        if "_iam_" not in address:
            continue
        if "_iam_member" not in address:
            raise CheckError(f"{address} may revoke roles of others: use an _iam_member resource")
        target = _name(next(resource[key] for key in _TARGET_ATTRIBUTES if resource.get(key)))
        rule = f"{resource['role'].removeprefix('roles/')} on {target}"
        for condition in resource.get("condition") or []:
            rule += f" for {', '.join(_prefixes(condition['expression']))}"
        granted[_member(resource["member"])].add(
            rule.replace("warehouse-1-dimmy-test-data", "data")
        )
    return granted


def check_settings(plans: Plans) -> None:
    """Check that each function gets exactly the settings that it reads, with valid values."""
    plan_with_all = plans["every_setting"]
    for name in _SETTINGS_READERS:
        given = _environment(plan_with_all, name).keys() - _SERVER_SETTINGS
        read = names_read(name) - _SANDBOX_SETTINGS - _MACHINE_SETTINGS
        if given != read:
            different = ", ".join(sorted(given ^ read))
            raise CheckError(f"{name}: either set by Terraform or read, not both: {different}")
        for plan in plans.values():
            if f'google_cloudfunctions2_function.this["{name}"]' in plan:
                _read_settings(name, _environment(plan, name))


def check_stability(folder: Path, plans: Plans) -> None:
    """Check what would make a later plan or apply differ, and what no plan shows."""
    for plan in plans.values():
        dashboard = json.loads(plan["google_monitoring_dashboard.this"]["dashboard_json"])
        if empty := [path for path, value in _leaves(dashboard) if value in (0, "", [], {})]:
            raise CheckError(f"the API leaves out what is zero or empty: {empty[0]}")
        for address, resource in plan.items():
            if "notification_channel" in address and not resource["force_delete"]:
                raise CheckError(f"{address} could not be removed while an alert names it")
    _check_order(folder)
    functions = (folder / _MODULE / "functions.tf").read_text()
    if _REPLACED_WITH not in functions:
        raise CheckError("a function loses its invoker when it is replaced, or with every update")


def _check_order(folder: Path) -> None:
    """Check what each resource is created after, and replaced with."""
    for file in (folder / _MODULE).glob("*.tf"):
        for name, body in _RESOURCE.findall(file.read_text()):
            if "var.kms_key" in body and "google_kms_crypto_key_iam_member.agent" not in body:
                raise CheckError(f"{name} is not created after the roles on its key")
            resource = name.removeprefix("google_").replace('" "', ".")
            if _DEPENDENCIES.get(resource, "") not in body:
                raise CheckError(f"{resource} is not created after {_DEPENDENCIES[resource]}")
            for container in _CONTAINER.findall(body):
                if f"= [{container}.id]" not in body:
                    raise CheckError(f"{resource} is lost when {container} is replaced")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The paths and values of everything in a decoded JSON text that contains nothing else."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}")
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    else:
        yield path, value


def check_sources(plans: Plans) -> None:
    """Check that the load balancer admits the same addresses of Svix as `receive`."""
    known = {str(network) for network in sources.parse(" ".join(sources.SVIX_SOURCES))}
    ipv4 = {network for network in known if ":" not in network}
    for run, expected in {"load_balancer": ipv4, "load_balancer_ipv6": known}.items():
        policy = plans[run]['google_compute_security_policy.receive["this"]']
        admitted = {
            network
            for rule in policy["rule"]
            if rule["action"] == "allow"
            for network in rule["match"][0]["config"][0]["src_ip_ranges"]
        }
        if admitted != expected:
            different = sorted(admitted ^ expected)
            raise CheckError(f"{run}: either admitted or known to receive: {different}")


def check_secrets(folder: Path, plans: Plans) -> None:
    """Check that no value of a secret is in the files, nor could be in the state."""
    written = "\n".join(path.read_text() for path in folder.rglob("*.tf"))
    for source in ("google_secret_manager_secret_version", "secret_data", "whsec_"):
        if source in written or source in json.dumps(plans):
            raise CheckError(f"{source} puts the value of a secret into Terraform")
    for plan in plans.values():
        for address, function in plan.items():
            if not address.startswith("google_cloudfunctions2_function."):
                continue
            config = function["service_config"][0]
            if config["environment_variables"].keys() & {"SIGNING_SECRETS", "DIMMY_API_KEY"}:
                raise CheckError(f"{address} gets a secret as a plain environment variable")


def scan(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Run checkov; return its `failed_checks` and `skipped_checks`."""
    options = ["--framework=terraform", "--skip-download", "--compact", "--output=json"]
    found = subprocess.run(
        [CHECKOV, f"--directory={folder}", *options], capture_output=True, text=True, check=False
    )
    results: dict[str, list[dict[str, Any]]] = json.loads(found.stdout)["results"]
    return results


_STARTS_WITH = re.compile(r'resource\.name\.startsWith\("projects/_/buckets/([^"]+)"\)')
_TARGET_ATTRIBUTES = (
    "crypto_key_id",
    "service_account_id",
    "repository",
    "service",
    "subscription",
    "topic",
    "secret_id",
    "bucket",
    "dataset_id",
    "project",
)


def _names_in(file: Path, kind: str) -> list[str]:
    return re.findall(rf'^{kind} "(\w+)"', file.read_text(), re.MULTILINE)


def _types_of_variables(file: Path) -> dict[str, str]:
    found = re.findall(
        r'^variable "(\w+)" \{.*?^  type += (.+?)(?=^  \w|^$|^\})',
        file.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    return {name: " ".join(text.split()) for name, text in found}


def _name(full: str) -> str:
    return full.rpartition("/")[2]


def _prefixes(expression: str) -> list[str]:
    """The prefixes of the object names for which a condition is true."""
    parts = [_STARTS_WITH.fullmatch(part) for part in expression.split(" || ")]
    return [part[1] if part else expression for part in parts]


def _member(member: str) -> str:
    account = re.fullmatch(r"serviceAccount:(\w+)@warehouse-1\.iam\.gserviceaccount\.com", member)
    return account[1] if account else member


def _environment(plan: Plan, function: str) -> dict[str, str]:
    config = plan[f'google_cloudfunctions2_function.this["{function}"]']["service_config"][0]
    secrets = {secret["key"]: "" for secret in config["secret_environment_variables"] or ()}
    settings: dict[str, str] = config["environment_variables"]
    return settings | secrets


class _Recorder(dict[str, str]):
    """An environment that records which variables are read. It has only an items topic.

    Whether there is one decides which further variables are read.
    """

    def __init__(self) -> None:
        super().__init__(ITEMS_TOPIC="projects/warehouse-1/topics/items")
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def names_read(function: str) -> set[str]:
    """The environment variables that a function reads its settings from."""
    recorder = _Recorder()
    try:
        _read(function, recorder)
    except SettingsError:
        return recorder.names
    raise CheckError(f"{function} has no required setting")


def _read_settings(function: str, given: Mapping[str, str]) -> None:
    secrets = {"SIGNING_SECRETS": "whsec_" + "A" * 32, "DIMMY_API_KEY": "a-key-of-the-tests"}
    try:
        _read(function, {name: value or secrets[name] for name, value in given.items()})
    except SettingsError as error:
        raise CheckError(f"{function} rejects the settings from Terraform: {error}") from error


def _read(function: str, environment: Mapping[str, str]) -> None:
    _SETTINGS_READERS[function](environment)


def _test(folder: Path, provider: GoogleProvider, *options: str) -> Plans:
    """Run `terraform test`; return the plans of its runs."""
    done = _terraform(folder, "test", "-json", "-verbose", *options, provider=provider)
    plans: Plans = {}
    for event in _events(done.stdout):
        if event["type"] == "test_plan":
            plans[event["@testrun"]] = {
                change["address"].removeprefix("module.dimmy."): change["change"]["after"]
                for change in event["test_plan"].get("resource_changes", [])
                if change["mode"] == "managed"
            }
        elif event["type"] == "diagnostic" and event["diagnostic"]["severity"] == "error":
            diagnostic = event["diagnostic"]
            text = f"{diagnostic['summary']}\n{diagnostic['detail']}"
            raise CheckError(f"{event.get('@testrun', '')}: {text}")
    _require_success(done)
    return plans


def _events(printed: str) -> Iterator[dict[str, Any]]:
    for line in printed.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def _terraform(
    folder: Path, *arguments: str, provider: GoogleProvider | None = None
) -> subprocess.CompletedProcess[str]:
    # The user's own configuration of Terraform must not affect the checks.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    with tempfile.TemporaryDirectory() as data:
        environment |= {"TF_DATA_DIR": data, "CHECKPOINT_DISABLE": "1"}
        environment |= provider.environment if provider else {}
        # What loads the configuration needs its modules, which come from a folder beside.
        commands = [("get",), arguments] if provider else [arguments]
        for command in commands:
            done = subprocess.run(
                ["terraform", f"-chdir={folder}", *command],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        return done


def _require_success(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise CheckError(f"{' '.join(done.args[2:])}:\n{done.stdout}{done.stderr}")
