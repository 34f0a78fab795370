"""`make rotate` and `make retire`: the versions of the secrets.

One of them: .venv/bin/pytest tests/operate/test_rotation.py -k rotate
"""

import json

import pytest

from support.operator import DEPLOYED, Answer, Operator

_SIGNING, _KEY = "dimmy-dev-signing-secrets", "dimmy-dev-api-key"


def _service(function: str, setting: str, secret_id: str, version: str) -> Answer:
    """What Cloud Run says of a function's service."""
    reference = {"name": secret_id, "key": version}
    container = {
        "env": [
            {"name": "LOG_LEVEL", "value": "INFO"},
            {"name": setting, "valueFrom": {"secretKeyRef": reference}},
        ]
    }
    spec = {"template": {"spec": {"containers": [container]}}}
    return (f"services describe dimmy-dev-{function}", json.dumps({"spec": spec}), 0)


_PLAIN = {"spec": {"template": {"spec": {"containers": [{"env": [{"name": "A", "value": "b"}]}]}}}}
_SERVICES = [
    _service("receive", "SIGNING_SECRETS", _SIGNING, "5"),
    _service("resolve", "DIMMY_API_KEY", _KEY, "2"),
    _service("reconcile", "DIMMY_API_KEY", _KEY, "2"),
]


def test_rotate_changes_only_the_functions_that_read_an_older_version(operator: Operator) -> None:
    newest = [(f"versions list {_SIGNING}", "5", 0), (f"versions list {_KEY}", "4", 0)]
    operator.set_answers(*newest, *_SERVICES)

    assert operator.run("rotate", YES="1") == 0

    assert "dimmy-dev-resolve: dimmy-dev-api-key, version 2 becomes 4" in operator.printed
    updates = [call[1:-2] for call in operator.calls if "update" in call]
    assert updates == [
        [
            "run",
            "services",
            "update",
            f"dimmy-dev-{function}",
            "--region=europe-west1",
            f"--update-secrets=DIMMY_API_KEY={_KEY}:4",
            "--project=warehouse-1",
        ]
        for function in ("resolve", "reconcile")
    ]


def test_rotate_reads_a_secret_that_a_service_calls_by_an_alias(operator: Operator) -> None:
    """Cloud Run may do so with a secret that was given with its project."""
    words, text, *_ = _service("resolve", "DIMMY_API_KEY", "alias-1", "2")
    service = json.loads(text)
    secret = f"alias-1:projects/1/secrets/{_KEY}"
    annotations = {"run.googleapis.com/secrets": f"alias-2:projects/1/secrets/other,{secret}"}
    service["spec"]["template"]["metadata"] = {"annotations": annotations}
    newest = [(f"versions list {_SIGNING}", "5", 0), (f"versions list {_KEY}", "4", 0)]
    operator.set_answers(*newest, (words, json.dumps(service), 0), *_SERVICES)

    assert operator.run("rotate", YES="1") == 0

    assert f"dimmy-dev-resolve: {_KEY}, version 2 becomes 4" in operator.printed


def test_rotate_asks(operator: Operator) -> None:
    operator.set_answers(("versions list", "9", 0), *_SERVICES)

    assert operator.type("rotate", "no") == 2

    assert not any("update" in call for call in operator.calls)


def test_rotate_changes_nothing_while_every_version_is_the_newest(operator: Operator) -> None:
    newest = [(f"versions list {_SIGNING}", "5", 0), (f"versions list {_KEY}", "2", 0)]
    operator.set_answers(*newest, *_SERVICES)

    assert operator.run("rotate") == 0

    assert "Every function reads the newest version" in operator.printed


def test_retire_disables_what_neither_a_service_nor_a_function_reads(operator: Operator) -> None:
    """After `make rotate`, the function's own configuration still names the older version."""
    deployed = {"serviceConfig": {"secretEnvironmentVariables": [{"secret": _KEY, "version": "1"}]}}
    operator.set_answers(
        (f"versions list {_SIGNING}", "7\n6\n5\n4", 0),
        (f"versions list {_KEY}", "3\n2\n1", 0),
        ("functions describe", json.dumps(deployed), 0),
        *_SERVICES,
    )

    assert operator.run("retire", YES="1") == 0

    disabled = [call[4:6] for call in operator.calls if "disable" in call]
    assert disabled == [["6", f"--secret={_SIGNING}"], ["4", f"--secret={_SIGNING}"]]


def test_retire_asks(operator: Operator) -> None:
    operator.set_answers(("versions list", "9\n8", 0), ("functions describe", "{}", 0), *_SERVICES)

    assert operator.type("retire", "no") == 2

    assert not any("disable" in call for call in operator.calls)


@pytest.mark.parametrize("command", ["rotate", "retire"])
def test_a_function_that_needs_no_secret_is_no_error(operator: Operator, command: str) -> None:
    """Such as archive, with photos = "archive"."""
    functions = DEPLOYED["functions"] | {"archive": {"name": "dimmy-dev-archive"}}
    archive = ("services describe dimmy-dev-archive", json.dumps(_PLAIN), 0)
    versions = [(f"versions list {_SIGNING}", "5", 0), (f"versions list {_KEY}", "2", 0)]
    described = ("functions describe", "{}", 0)
    operator.set_answers(*versions, described, archive, *_SERVICES, functions=functions)

    assert operator.run(command) == 0, operator.printed


def test_a_service_whose_secret_is_not_found_is_an_error_and_no_success(operator: Operator) -> None:
    other = _service("receive", "SIGNING_SECRETS", "another-secret", "5")
    operator.set_answers(("versions list", "9", 0), other, *_SERVICES)

    for command in ("rotate", "retire"):
        assert operator.run(command, YES="1") == 1
        assert "dimmy-dev-receive reads none of" in operator.printed


def test_a_secret_that_no_service_reads_is_an_error_and_no_success(operator: Operator) -> None:
    plain = ("services describe dimmy-dev-receive", json.dumps(_PLAIN), 0)
    operator.set_answers(("versions list", "9", 0), plain, *_SERVICES)

    for command in ("rotate", "retire"):
        assert operator.run(command, YES="1") == 1
        assert f"No function reads {_SIGNING}: deploy again." in operator.printed


def test_a_secret_with_its_full_name_is_recognised(operator: Operator) -> None:
    full = f"projects/123/secrets/{_SIGNING}"
    operator.set_answers(
        ("versions list", "9", 0), _service("receive", "SIGNING_SECRETS", full, "5"), *_SERVICES
    )

    assert operator.run("rotate", YES="1") == 0

    assert f"dimmy-dev-receive: {_SIGNING}, version 5 becomes 9" in operator.printed
