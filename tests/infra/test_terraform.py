"""`infra/`: what Terraform would make of it, without a cloud.

One of them: .venv/bin/pytest tests/infra/test_terraform.py -k roles
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from operate.google.deployment import INFRA, Deployment
from support.programs import needs
from terraform import checks
from terraform.checks import CheckError, Plans
from terraform.mutants import MUTANTS, Mutant, catch
from terraform.provider import SCHEMA, GoogleProvider
from terraform.renew_schema import as_text, slim
from terraform.rules import RULES, faults_of

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


def test_it_is_in_terraforms_common_form() -> None:
    checks.check_form(INFRA)


def test_it_is_valid(provider: GoogleProvider) -> None:
    checks.check_validity(INFRA, provider)


def test_its_own_tests_pass(plans: Plans) -> None:
    assert {"access", "delivery", "storage", "load_balancer", "bigquery"} <= plans.keys()


def test_the_list_of_roles_is_complete(plans: Plans) -> None:
    checks.check_roles(plans)


def test_functions_get_just_the_settings_that_they_read(plans: Plans) -> None:
    checks.check_settings(plans)


def test_the_load_balancer_admits_the_senders_that_the_function_knows(plans: Plans) -> None:
    checks.check_sources(plans)


def test_no_secret_has_a_value_in_a_plan(plans: Plans) -> None:
    checks.check_secrets(INFRA, plans)


def test_variables_are_described_in_order_and_refuse_bad_values(provider: GoogleProvider) -> None:
    checks.check_bad_values(INFRA, provider)


def test_the_stand_in_knows_the_schema_of_what_is_used() -> None:
    checks.check_schema(INFRA)


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_each_environment_plans(provider: GoogleProvider, environment: str) -> None:
    plan = checks.check_environment(INFRA, provider, INFRA / "envs" / f"{environment}.tfvars")

    bucket = plan["google_storage_bucket.data"]
    assert bucket["name"] == f"warehouse-1-dimmy-{environment}-data"
    assert bucket["deletion_policy"] == ("DELETE" if environment == "dev" else "PREVENT")
    named = Deployment(environment, "warehouse-1").secrets
    assert {
        name: plan[f'google_secret_manager_secret.this["{name}"]']["secret_id"] for name in named
    } == named, "`make secrets` and Terraform disagree about the secrets' names"


def test_every_environment_has_a_file() -> None:
    assert {path.stem for path in (INFRA / "envs").glob("*.tfvars")} == {"dev", "staging", "prod"}


@needs("checkov")
def test_a_scan_finds_nothing_that_has_no_reason() -> None:
    found = checks.scan(INFRA)

    assert found["failed_checks"] == []
    excused = [
        check["check_result"]["suppress_comment"].strip() for check in found["skipped_checks"]
    ]
    written = re.findall(
        r"checkov:skip=\w+: (.+)", "\n".join(path.read_text() for path in INFRA.glob("*.tf"))
    )
    assert sorted(excused) == sorted(written), "an exception that is not needed"


def test_every_way_to_break_it_is_up_to_date() -> None:
    for mutant in MUTANTS:
        assert mutant.text in (INFRA / mutant.file).read_text(), mutant.name


@pytest.mark.parametrize("mutant", MUTANTS[::12], ids=lambda mutant: mutant.name)
def test_what_breaks_it_is_noticed(
    provider: GoogleProvider, mutant: Mutant, tmp_path: Path
) -> None:
    """A few; `make mutants` tries them all."""
    assert catch(mutant, provider, tmp_path), "nobody noticed"


def test_the_rules_are_about_attributes_that_there_are() -> None:
    """A rule with a misspelt path would never find anything."""
    schemas = json.loads(SCHEMA.read_bytes())["resource_schemas"]
    for resource_type, rules in RULES.items():
        for path in rules:
            block = schemas[resource_type]["block"]
            *outer, attribute = path.split(".")
            for name in outer:
                block = block["block_types"][name]["block"]
            assert attribute in block["attributes"], f"{resource_type}.{path}"


def test_a_rule_names_the_attribute_and_what_it_may_be() -> None:
    config = {"service_config": [{"ingress_settings": "ALLOW_INTERNAL", "timeout_seconds": None}]}

    assert list(faults_of("google_cloudfunctions2_function", config)) == [
        (
            "service_config.ingress_settings",
            "'ALLOW_INTERNAL' is none of ALLOW_ALL, ALLOW_INTERNAL_ONLY, ALLOW_INTERNAL_AND_GCLB",
        )
    ]


def test_a_renewed_schema_keeps_just_what_is_used_and_nothing_for_people() -> None:
    attribute = {"type": "string", "description": "For people.", "required": True}
    told = {
        "provider": {"version": 0, "block": {}},
        "resource_schemas": {
            "google_used": {"block": {"attributes": {"description": attribute}}},
            "google_unused": {"block": {}},
        },
        "data_source_schemas": {},
    }

    kept = slim(told, {"resource_schemas": {"google_used"}, "data_source_schemas": set()})

    plain = {"type": "string", "required": True}
    assert kept["resource_schemas"] == {
        "google_used": {"block": {"attributes": {"description": plain}}}
    }
    assert '\n"google_used":{' in as_text(kept)
    with pytest.raises(KeyError, match="google_new"):
        slim(told, {"resource_schemas": {"google_new"}, "data_source_schemas": set()})


def test_a_check_says_what_is_wrong(provider: GoogleProvider, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text('resource "google_pubsub_topic" "t" { nmae = "x" }\n')

    with pytest.raises(CheckError, match="nmae"):
        checks.check_validity(tmp_path, provider)
