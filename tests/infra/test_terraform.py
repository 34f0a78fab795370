"""Checks of `infra/` with Terraform, without a cloud.

One of them: .venv/bin/pytest tests/infra/test_terraform.py -k roles
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from operate.google.deployment import INFRA, MODULE, Deployment
from support.programs import GOOGLE_PROVIDER, finds_google_provider, needs
from terraform import checks
from terraform.checks import CheckError, Plans
from terraform.mutants import MUTANTS, Mutant, apply, detect, unaligned
from terraform.provider import SCHEMA, GoogleProvider
from terraform.renew_schema import as_text, reduce_schema
from terraform.rules import RULES, find_problems

pytestmark = [
    pytest.mark.xdist_group("infra"),
    needs("terraform"),
]


@pytest.fixture(scope="module")
def provider() -> Iterator[GoogleProvider]:
    with GoogleProvider() as running:
        yield running


@pytest.fixture(scope="module")
def plans(provider: GoogleProvider) -> Plans:
    return checks.check_behaviour(INFRA, provider)


def test_the_files_are_formatted() -> None:
    checks.check_formatting(INFRA)


def test_the_configuration_is_valid(provider: GoogleProvider) -> None:
    checks.check_validity(INFRA, provider)


def test_terraforms_own_tests_pass(plans: Plans) -> None:
    assert {"access", "delivery", "storage", "load_balancer", "bigquery"} <= plans.keys()


def test_jobs_of_github_have_exactly_their_roles(provider: GoogleProvider) -> None:
    checks.check_github(INFRA, provider)


def test_exactly_the_listed_roles_are_granted(plans: Plans) -> None:
    checks.check_roles(plans)


def test_functions_get_exactly_the_settings_they_read(plans: Plans) -> None:
    checks.check_settings(plans)


def test_the_load_balancer_admits_the_same_addresses_of_svix_as_receive(plans: Plans) -> None:
    checks.check_sources(plans)


def test_an_unchanged_installation_has_nothing_to_change(plans: Plans) -> None:
    checks.check_stability(INFRA, plans)


def test_no_plan_contains_the_value_of_a_secret(plans: Plans) -> None:
    checks.check_secrets(INFRA, plans)


def test_variables_are_described_sorted_and_reject_invalid_values(provider: GoogleProvider) -> None:
    checks.check_invalid_values(INFRA, provider)


def test_the_root_passes_on_all_variables_and_outputs_of_the_module() -> None:
    checks.check_root(INFRA)


def test_an_upgrade_from_before_the_module_deletes_and_replaces_nothing(
    provider: GoogleProvider,
) -> None:
    checks.check_upgrade(INFRA, provider)


def test_an_upgrade_to_the_topic_of_items_deletes_what_holds_no_data(
    provider: GoogleProvider,
) -> None:
    checks.check_upgrade_of_items(INFRA, provider)


def test_the_replacement_provider_has_the_schemas_in_use() -> None:
    checks.check_schema(INFRA)


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_each_environment_can_be_planned(provider: GoogleProvider, environment: str) -> None:
    plan = checks.check_environment(INFRA, provider, INFRA / "envs" / f"{environment}.tfvars")

    bucket = plan["google_storage_bucket.data"]
    assert bucket["name"] == f"warehouse-1-dimmy-{environment}-data"
    assert bucket["deletion_policy"] == ("DELETE" if environment == "dev" else "PREVENT")
    secret_ids = Deployment(environment, "warehouse-1").secrets
    assert {
        name: plan[f'google_secret_manager_secret.this["{name}"]']["secret_id"]
        for name in secret_ids
    } == secret_ids, "`make secrets` and Terraform disagree about the secrets' names"


def test_there_is_a_file_for_each_environment() -> None:
    assert {path.stem for path in (INFRA / "envs").glob("*.tfvars")} == {"dev", "staging", "prod"}


@needs("checkov")
def test_checkov_finds_only_documented_exceptions() -> None:
    found = checks.scan(MODULE)

    assert found["failed_checks"] == []
    skipped = [
        check["check_result"]["suppress_comment"].strip() for check in found["skipped_checks"]
    ]
    documented = re.findall(
        r"checkov:skip=\w+: (.+)", "\n".join(path.read_text() for path in MODULE.glob("*.tf"))
    )
    assert sorted(skipped) == sorted(documented), "an exception is not needed"


def test_every_mutant_is_up_to_date() -> None:
    for mutant in MUTANTS:
        original = (INFRA / mutant.file).read_text()
        assert apply(mutant, original) != unaligned(original), mutant.name


@pytest.mark.parametrize("mutant", MUTANTS[::12], ids=lambda mutant: mutant.name)
def test_the_checks_detect_a_mutant(
    provider: GoogleProvider, mutant: Mutant, tmp_path: Path
) -> None:
    """A sample; `make mutants` runs them all."""
    assert detect(mutant, provider, tmp_path), "not detected"


def test_rules_refer_to_existing_attributes() -> None:
    """A rule with a misspelt path would never find a problem."""
    schemas = json.loads(SCHEMA.read_bytes())["resource_schemas"]
    for resource_type, rules in RULES.items():
        for path in rules:
            block = schemas[resource_type]["block"]
            *outer, attribute = path.split(".")
            for name in outer:
                block = block["block_types"][name]["block"]
            assert attribute in block["attributes"], f"{resource_type}.{path}"


def test_a_rule_reports_the_attribute_and_its_allowed_values() -> None:
    config = {"service_config": [{"ingress_settings": "ALLOW_INTERNAL", "timeout_seconds": None}]}

    assert list(find_problems("google_cloudfunctions2_function", config)) == [
        (
            "service_config.ingress_settings",
            "'ALLOW_INTERNAL' is none of ALLOW_ALL, ALLOW_INTERNAL_ONLY, ALLOW_INTERNAL_AND_GCLB",
        )
    ]


def test_an_updated_schema_has_only_the_types_in_use_without_descriptions() -> None:
    attribute = {"type": "string", "description": "A description.", "required": True}
    schema = {
        "provider": {"version": 0, "block": {}},
        "resource_schemas": {
            "google_used": {"block": {"attributes": {"description": attribute}}},
            "google_unused": {"block": {}},
        },
        "data_source_schemas": {},
    }

    reduced = reduce_schema(
        schema, {"resource_schemas": {"google_used"}, "data_source_schemas": set()}
    )

    plain = {"type": "string", "required": True}
    assert reduced["resource_schemas"] == {
        "google_used": {"block": {"attributes": {"description": plain}}}
    }
    assert '\n"google_used":{' in as_text(reduced)
    with pytest.raises(KeyError, match="google_new"):
        reduce_schema(schema, {"resource_schemas": {"google_new"}, "data_source_schemas": set()})


def test_a_failed_check_names_the_problem(provider: GoogleProvider, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text('resource "google_pubsub_topic" "t" { nmae = "x" }\n')

    with pytest.raises(CheckError, match="nmae"):
        checks.check_validity(tmp_path, provider)


def test_the_real_provider_accepts_the_configuration_and_passes_its_tests(tmp_path: Path) -> None:
    """With its own schema, and what it knows beyond that: enumerations, ranges, conflicts."""
    if not finds_google_provider():
        pytest.skip(f"{GOOGLE_PROVIDER} is not found by terraform init: only its schema was used")
    infra = tmp_path / "infra"
    shutil.copytree(INFRA, infra)

    checks.check_with_installed_provider(infra)
    checks.check_with_installed_provider(infra / "modules" / "dimmy", "test")
    checks.check_with_installed_provider(infra, "test", "-filter=tests/github.tftest.hcl")
    for variables in sorted((infra / "envs").glob("*.tfvars")):
        environment = ("-filter=tests/environment.tftest.hcl", f"-var-file={variables}")
        checks.check_with_installed_provider(infra, "test", *environment)
