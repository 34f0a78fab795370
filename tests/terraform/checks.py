"""What is checked of a folder such as `infra/`. Each check raises CheckError with what is wrong.

`check_all` is what a change has to pass; `mutants.py` measures how much gets past it.
"""

import json
import os
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.environment import SettingsError
from pipeline.receive import sources
from pipeline.receive.settings import read_receive_settings
from pipeline.reconcile.settings import read_reconcile_settings
from pipeline.resolve.settings import read_resolve_settings
from support.programs import CHECKOV
from terraform.provider import SCHEMA, GoogleProvider
from terraform.renew_schema import used_in

Plan = dict[str, dict[str, Any]]  # by address: what each resource will be
Plans = dict[str, Plan]  # by the name of the run that made it

PUBSUB_AGENT = "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"

# Everything that anybody may do, and to which objects of a bucket; nothing else is granted.
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
        "storage.objectUser on data for data/objects/items/",
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

_READERS: dict[str, Callable[[Mapping[str, str]], object]] = {
    "receive": read_receive_settings,
    "resolve": read_resolve_settings,
    "reconcile": read_reconcile_settings,
}

_BAD_VALUES = "variables.tftest.hcl"

# Of the server, or of a sandbox: no setting that Terraform should share with a function.
_OF_THE_SERVER = {"THREADS"}
_OF_THE_SANDBOX = {"PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"}


class CheckError(AssertionError):
    """`infra/` is not as it has to be."""


def check_all(folder: Path, provider: GoogleProvider) -> None:
    """Every check, the quick ones first."""
    check_form(folder)
    check_validity(folder, provider)
    plans = check_behaviour(folder, provider)
    check_schema(folder)
    check_roles(plans)
    check_settings(plans)
    check_sources(plans)
    check_secrets(folder, plans)
    check_bad_values(folder, provider)
    for environment in sorted((folder / "envs").glob("*.tfvars")):
        check_environment(folder, provider, environment)


def check_form(folder: Path) -> None:
    """`terraform fmt`."""
    _succeed(_terraform(folder, "fmt", "-check", "-recursive", "-no-color"))


def make_tidy(folder: Path) -> None:
    """Bring it into Terraform's common form."""
    _succeed(_terraform(folder, "fmt", "-recursive"))


def check_validity(folder: Path, provider: GoogleProvider) -> None:
    """`terraform validate`: names, types, references, and the values that Google Cloud knows."""
    _succeed(_terraform(folder, "validate", "-no-color", provider=provider))


def check_behaviour(folder: Path, provider: GoogleProvider) -> Plans:
    """`terraform test`, but for the bad values; returns the plans of all its runs."""
    files = sorted((folder / "tests").glob("*.tftest.hcl"))
    filters = [f"-filter=tests/{file.name}" for file in files if file.name != _BAD_VALUES]
    return _test(folder, provider, *filters)


def check_bad_values(folder: Path, provider: GoogleProvider) -> None:
    """`terraform test` of what the variables refuse, and that each that refuses is tested."""
    declared = (folder / "variables.tf").read_text()
    names = re.findall(r'^variable "(\w+)"', declared, re.MULTILINE)
    if names != sorted(names):
        raise CheckError("the variables are not in alphabetical order")
    refused = (folder / "tests" / _BAD_VALUES).read_text()
    bodies = re.split(r'^variable "\w+"', declared, flags=re.MULTILINE)[1:]
    for name, body in zip(names, bodies, strict=True):
        if "description" not in body or "type" not in body:
            raise CheckError(f"the variable {name} has no description or no type")
        if "validation {" in body and f"[var.{name}]" not in refused:
            raise CheckError(f"no test has a bad value for the variable {name}")
    _test(folder, provider, f"-filter=tests/{_BAD_VALUES}")


def check_environment(folder: Path, provider: GoogleProvider, variables: Path) -> Plan:
    """The plan of an environment, and that there is a configuration of its state."""
    if not variables.with_suffix(".gcs.tfbackend").exists():
        raise CheckError(f"{variables.name} has no {variables.stem}.gcs.tfbackend beside it")
    options = ("-test-directory=tests/environments", f"-var-file={variables}")
    return _test(folder, provider, *options)["environment"]


def check_schema(folder: Path) -> None:
    """The stand-in provider knows what is used, and nothing else."""
    kept = json.loads(SCHEMA.read_bytes())
    for kind, used in used_in(folder).items():
        if used != kept[kind].keys():
            differ = ", ".join(sorted(used ^ kept[kind].keys()))
            raise CheckError(
                f"{SCHEMA.name} is not that of infra/ ({differ}): make provider-schema"
            )


def check_roles(plans: Plans) -> None:
    """Who may do what is what `ROLES` says, completely."""
    granted = defaultdict(set)
    for address, resource in plans["access"].items():
        if "_iam_" not in address:
            continue
        if "_iam_member" not in address:
            raise CheckError(f"{address} grants to others than it names, or takes from them")
        on = _name(next(resource[key] for key in _ON if resource.get(key)))
        rule = f"{resource['role'].removeprefix('roles/')} on {on}"
        for condition in resource.get("condition") or []:
            rule += f" for {', '.join(_prefixes(condition['expression']))}"
        granted[_member(resource["member"])].add(
            rule.replace("warehouse-1-dimmy-test-data", "data")
        )
    for who in sorted(granted.keys() | ROLES.keys()):
        if granted[who] != ROLES.get(who, set()):
            raise CheckError(f"{who} may do other things than it should: {sorted(granted[who])}")


def check_settings(plans: Plans) -> None:
    """Each function gets just the settings that it reads, and reads what it gets."""
    every = plans["allowed_sources"]
    for name in ("receive", "resolve", "reconcile"):
        given = _environment(every, name)
        read = names_read(name)
        if given.keys() - _OF_THE_SERVER != read - _OF_THE_SANDBOX:
            differ = sorted((given.keys() - _OF_THE_SERVER) ^ (read - _OF_THE_SANDBOX))
            raise CheckError(f"{name}: given or read, but not both: {', '.join(differ)}")
        for plan in plans.values():
            _read_settings(name, _environment(plan, name))


def check_sources(plans: Plans) -> None:
    """The load balancer admits the addresses that `receive` knows."""
    rules = plans["load_balancer"]['google_compute_security_policy.receive["this"]']["rule"]
    admitted = {
        network
        for rule in rules
        if rule["action"] == "allow"
        for network in rule["match"][0]["config"][0]["src_ip_ranges"]
    }
    known = {str(network) for network in sources.parse(" ".join(sources.SVIX_SOURCES))}
    if admitted != known:
        raise CheckError(f"admitted or known, but not both: {sorted(admitted ^ known)}")


def check_secrets(folder: Path, plans: Plans) -> None:
    """No secret has a value here, and none can come into the state."""
    written = "\n".join(path.read_text() for path in folder.glob("*.tf"))
    for source in ("google_secret_manager_secret_version", "secret_data", "whsec_"):
        if source in written or source in json.dumps(plans):
            raise CheckError(f"{source} brings a secret's value into Terraform")
    for plan in plans.values():
        for name in ("receive", "resolve", "reconcile"):
            plain = plan[f'google_cloudfunctions2_function.this["{name}"]']["service_config"][0]
            if plain["environment_variables"].keys() & {"SIGNING_SECRETS", "DIMMY_API_KEY"}:
                raise CheckError(f"{name} gets a secret as a plain setting")


def scan(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What checkov finds, by `failed_checks` and `skipped_checks`."""
    options = ["--framework=terraform", "--skip-download", "--compact", "--output=json"]
    found = subprocess.run(
        [CHECKOV, f"--directory={folder}", *options], capture_output=True, text=True, check=False
    )
    results: dict[str, list[dict[str, Any]]] = json.loads(found.stdout)["results"]
    return results


_STARTS_WITH = re.compile(r'resource\.name\.startsWith\("projects/_/buckets/([^"]+)"\)')
_ON = (
    "service_account_id",
    "repository",
    "service",
    "subscription",
    "topic",
    "secret_id",
    "bucket",
    "project",
)


def _name(full: str) -> str:
    return full.rpartition("/")[2]


def _prefixes(expression: str) -> list[str]:
    """What the names of the objects begin with that a condition is true for."""
    parts = [_STARTS_WITH.fullmatch(part) for part in expression.split(" || ")]
    return [part[1] if part else expression for part in parts]


def _member(member: str) -> str:
    ours = re.fullmatch(r"serviceAccount:(\w+)@warehouse-1\.iam\.gserviceaccount\.com", member)
    return ours[1] if ours else member


def _environment(plan: Plan, function: str) -> dict[str, str]:
    config = plan[f'google_cloudfunctions2_function.this["{function}"]']["service_config"][0]
    secrets = {secret["key"]: "" for secret in config["secret_environment_variables"]}
    settings: dict[str, str] = config["environment_variables"]
    return settings | secrets


class _Recorder(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return default


def names_read(function: str) -> set[str]:
    """The variables that a function's settings are read from."""
    recorder = _Recorder()
    try:
        _read(function, recorder)
    except SettingsError:
        return recorder.asked
    raise CheckError(f"{function} needs no setting at all")


def _read_settings(function: str, given: Mapping[str, str]) -> None:
    known = {"SIGNING_SECRETS": "whsec_" + "A" * 32, "DIMMY_API_KEY": "a-key-of-the-tests"}
    try:
        _read(function, {name: value or known[name] for name, value in given.items()})
    except SettingsError as error:
        raise CheckError(f"what Terraform gives is refused: {error}") from error


def _read(function: str, environment: Mapping[str, str]) -> None:
    _READERS[function](environment)


def _test(folder: Path, provider: GoogleProvider, *options: str) -> Plans:
    """Run `terraform test`, and read what it planned."""
    done = _terraform(folder, "test", "-json", "-verbose", *options, provider=provider)
    plans: Plans = {}
    for event in _events(done.stdout):
        if event["type"] == "test_plan":
            plans[event["@testrun"]] = {
                change["address"]: change["change"]["after"]
                for change in event["test_plan"].get("resource_changes", [])
                if change["mode"] == "managed"
            }
        elif event["type"] == "diagnostic" and event["diagnostic"]["severity"] == "error":
            said = event["diagnostic"]
            raise CheckError(f"{event.get('@testrun', '')}: {said['summary']}\n{said['detail']}")
    _succeed(done)
    return plans


def _events(printed: str) -> Iterator[dict[str, Any]]:
    for line in printed.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def _terraform(
    folder: Path, *arguments: str, provider: GoogleProvider | None = None
) -> subprocess.CompletedProcess[str]:
    # A person's own configuration of Terraform has no say here.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    with tempfile.TemporaryDirectory() as data:
        environment |= {"TF_DATA_DIR": data, "CHECKPOINT_DISABLE": "1"}
        return subprocess.run(
            ["terraform", f"-chdir={folder}", *arguments],
            env=environment | (provider.environment if provider else {}),
            capture_output=True,
            text=True,
            check=False,
        )


def _succeed(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise CheckError(f"{' '.join(done.args[2:])}:\n{done.stdout}{done.stderr}")
