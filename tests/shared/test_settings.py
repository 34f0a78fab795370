"""Settings: all problems are reported at once, with their remedies and without any secret.

One of them: .venv/bin/pytest tests/shared/test_settings.py -k K07
"""

import json
import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from pipeline.dimmy.settings import DEFAULT_API_URL
from pipeline.environment import SettingsError
from pipeline.receive.settings import parse_signing_secrets, read_receive_settings
from pipeline.resolve.settings import read_resolve_settings
from sandbox.functions import Function
from sandbox.processes import StartError
from support.cases import SIGNATURE_CASES

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RECEIVE = {
    "SIGNING_SECRETS": SECRET,
    "EVENTS_TOPIC": "projects/acme-prod/topics/dimmy-events",
    "STORAGE_URL": "gs://acme-scans/dimmy",
}
RESOLVE = {"STORAGE_URL": "file:///srv/dimmy", "DIMMY_API_KEY": "key-of-24-visible-chars!"}


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("case", SIGNATURE_CASES["secret_cases"], ids=lambda case: case["id"])
def test_a_public_secret_case_is_accepted_or_refused_as_expected(case: dict[str, Any]) -> None:
    environment = RECEIVE | {"SIGNING_SECRETS": case["secret"]}

    if case["expected"] == "config_error":
        with pytest.raises(SettingsError, match="SIGNING_SECRETS") as error:
            read_receive_settings(environment)
        assert len(case["secret"]) < 8 or case["secret"] not in str(error.value)
    else:  # accepted once white space is stripped
        assert read_receive_settings(environment).signing_secrets == (case["secret"].strip(),)


@pytest.mark.parametrize("separator", [" ", ",", "\n", ", ", "\r\n\n"])
def test_secrets_may_be_separated_in_any_common_way(separator: str) -> None:
    other = "whsec_" + "QUJD" * 11

    assert parse_signing_secrets(f"{SECRET}{separator}{other}\n") == (SECRET, other)


def test_missing_padding_is_accepted_but_a_truncated_secret_is_not() -> None:
    complete = "whsec_ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM="

    assert parse_signing_secrets(complete.rstrip("=")) == (complete.rstrip("="),)
    with pytest.raises(ValueError, match=r"secret 2 of 2 .* cut off"):
        parse_signing_secrets(f"{complete} {complete[:-2]}")


def test_receive_reads_its_settings() -> None:
    settings = read_receive_settings(
        RECEIVE
        | {
            "ALLOWED_SOURCES": "svix-eu, 10.0.0.0/8 2001:db8::1",
            "TRUSTED_PROXY_HOPS": "2",
            "PUBSUB_EMULATOR_HOST": "127.0.0.1:8085",
            "LOG_FORMAT": "TEXT",
            "LOG_LEVEL": "debug",
        }
    )

    assert settings.events_topic == RECEIVE["EVENTS_TOPIC"]
    assert settings.storage.url == RECEIVE["STORAGE_URL"]
    assert len(settings.allowed_sources) == 6
    assert (settings.trusted_proxy_hops, settings.pubsub_emulator_host) == (2, "127.0.0.1:8085")
    assert (settings.log.format, settings.log.level) == ("text", "DEBUG")


def test_defaults_match_the_documentation() -> None:
    receive, resolve = read_receive_settings(RECEIVE), read_resolve_settings(RESOLVE)

    assert (receive.allowed_sources, receive.trusted_proxy_hops) == ((), 1)
    assert resolve.dimmy.api_url == DEFAULT_API_URL
    assert (resolve.dimmy.concurrency, resolve.dimmy.timeout_seconds) == (32, 10)
    assert resolve.attempt_seconds == 500
    assert (resolve.log.format, resolve.log.level) == ("json", "INFO")


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        read_receive_settings(
            {
                "SIGNING_SECRETS": f"{SECRET} hunter2hunter2",
                "EVENTS_TOPIC": "dimmy-events",
                "ALLOWED_SOURCES": f"svix-us {SECRET}",
                "TRUSTED_PROXY_HOPS": "one",
                "LOG_LEVEL": "LOUD",
            }
        )

    problems = error.value.problems
    assert [problem.split()[0] for problem in problems] == [
        "SIGNING_SECRETS",
        "EVENTS_TOPIC",
        "STORAGE_URL",
        "ALLOWED_SOURCES",
        "TRUSTED_PROXY_HOPS",
        "LOG_LEVEL",
    ]
    assert "number 2 of 2" in problems[3]
    assert "hunter2" not in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("read", "name", "value"),
    [
        (read_receive_settings, "EVENTS_TOPIC", "projects/p/subscriptions/dimmy"),
        (read_receive_settings, "STORAGE_URL", "s3://bucket"),
        (read_receive_settings, "STORAGE_URL", "file://relative/folder"),
        (read_receive_settings, "STORAGE_URL", "file:///"),
        (read_receive_settings, "STORAGE_EMULATOR_HOST", "http://storage.example.com"),
        (read_receive_settings, "ALLOWED_SOURCES", "10.0.0.1/8"),
        (read_receive_settings, "ALLOWED_SOURCES", " , "),
        (read_receive_settings, "STORAGE_URL", "gs://bucket//x"),
        (read_resolve_settings, "DIMMY_CONCURRENCY", "000000000999999"),
        (read_resolve_settings, "DIMMY_API_URL", "https://dimmy.api.optioryx.com/?"),
        (read_resolve_settings, "DIMMY_API_URL", "https://dimmy.api.optioryx.com/a b"),
        (read_receive_settings, "TRUSTED_PROXY_HOPS", "-1"),
        (read_receive_settings, "PUBSUB_EMULATOR_HOST", "http://localhost:8085"),
        (read_resolve_settings, "DIMMY_API_URL", "http://dimmy.api.optioryx.com"),
        (read_resolve_settings, "DIMMY_API_URL", "https://user:pw@dimmy.api.optioryx.com"),
        (read_resolve_settings, "DIMMY_API_URL", "https://dimmy.api.optioryx.com:none"),
        (read_resolve_settings, "DIMMY_API_URL", "dimmy.api.optioryx.com"),
        (read_resolve_settings, "DIMMY_API_KEY", "<YOUR API KEY>"),
        (read_resolve_settings, "DIMMY_API_KEY", "key\nX-Injected: 1"),
        (read_resolve_settings, "DIMMY_CONCURRENCY", "0"),
        (read_resolve_settings, "DIMMY_CONCURRENCY", "9" * 5000),
        (read_resolve_settings, "DIMMY_TIMEOUT_SECONDS", "nan"),
        (read_resolve_settings, "ATTEMPT_SECONDS", "601"),
    ],
)
def test_a_malformed_value_is_named(
    read: Callable[[dict[str, str]], object], name: str, value: str
) -> None:
    with pytest.raises(SettingsError) as error:
        read(RECEIVE | RESOLVE | {name: value})

    (problem,) = error.value.problems
    assert problem.startswith(f"{name} ")


def test_a_loopback_api_needs_no_tls() -> None:
    settings = read_resolve_settings(RESOLVE | {"DIMMY_API_URL": "http://127.0.0.1:9000/v1/"})

    assert settings.dimmy.api_url == "http://127.0.0.1:9000/v1"


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificate_authorities_have_to_exist(name: str, tmp_path: Path) -> None:
    missing, junk, valid = (tmp_path / each for each in ("missing", "junk", "valid"))
    junk.write_text("no certificate")
    trustme.CA().cert_pem.write_to_path(str(valid))

    pasted = "-----BEGIN CERTIFICATE-----\n" + "A" * 5000
    for value, problem in (
        (missing, r"names no file that can be read \(No such file or directory\)"),
        (junk, "names a file without certificates in PEM format"),
        (pasted, r"names no file that can be read \(File name too long\)"),
    ):
        with pytest.raises(SettingsError, match=f"{name} {problem}"):
            read_resolve_settings(RESOLVE | {name: str(value)})
    for path in (valid, tmp_path):
        settings = read_resolve_settings(RESOLVE | {name: str(path)})
        assert settings.dimmy.network.ca_bundle == str(path)


def test_requests_own_variable_comes_before_that_of_curl(tmp_path: Path) -> None:
    names = {"REQUESTS_CA_BUNDLE": str(tmp_path), "CURL_CA_BUNDLE": "/missing"}

    assert read_resolve_settings(RESOLVE | names).dimmy.network.ca_bundle == str(tmp_path)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ("socks5://user:hunter2@127.0.0.1:1080", "SOCKS"),
        ("socks5h://127.0.0.1:1080", "SOCKS"),
        ("ftp://user:hunter2@127.0.0.1", "not the URL of a proxy"),
        ("http://user:hunter2@127.0.0.1:port", "not the URL of a proxy"),
        ("http://", "not the URL of a proxy"),
        ("proxy:3128", "not the URL of a proxy"),  # which requests takes for a scheme
        ("http://user:hunter2\u4e16@127.0.0.1:3128", "not the URL of a proxy"),
        ("http://127.0.0.1:3128\n", "not the URL of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str, problem: str
) -> None:
    monkeypatch.setenv(name, proxy)

    with pytest.raises(SettingsError, match=rf"HTTPS_PROXY \(or ALL_PROXY\) .*{problem}") as error:
        read_resolve_settings(RESOLVE)
    assert "hunter2" not in str(error.value)

    monkeypatch.setenv("NO_PROXY", "dimmy.api.optioryx.com")
    assert read_resolve_settings(RESOLVE).dimmy.network.proxies == {}


@pytest.mark.parametrize(
    "proxy",
    ["http://user:hunter2@127.0.0.1:3128", "http://u:hunter2[@127.0.0.1:3128", "10.0.0.7:3128"],
)
def test_a_proxy_that_can_be_used_is_accepted(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    settings = read_resolve_settings(RESOLVE)

    assert settings.dimmy.network.proxies["https"] == proxy
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("read", [read_receive_settings, read_resolve_settings])
def test_a_missing_file_of_credentials_is_reported_once_where_it_is_needed(
    read: Callable[[dict[str, str]], object],
) -> None:
    missing = {"GOOGLE_APPLICATION_CREDENTIALS": "/missing.json"}
    on_google = RECEIVE | RESOLVE | missing | {"STORAGE_URL": "gs://acme-scans"}

    with pytest.raises(SettingsError) as error:
        read(on_google)
    (problem,) = error.value.problems
    assert problem.startswith("GOOGLE_APPLICATION_CREDENTIALS names no file that can be read (No ")

    read(on_google | {"STORAGE_URL": "file:///srv/dimmy", "PUBSUB_EMULATOR_HOST": "127.0.0.1:8085"})


@pytest.mark.parametrize("length", [0, 2000])
def test_credentials_pasted_in_place_of_their_path_are_not_shown(length: int) -> None:
    pasted = json.dumps({"private_key": "-----BEGIN hunter2" + "A" * length})

    with pytest.raises(SettingsError, match="names no file that can be read") as error:
        read_receive_settings(RECEIVE | {"GOOGLE_APPLICATION_CREDENTIALS": pasted})

    assert "hunter2" not in "".join(traceback.format_exception(error.value))


def test_white_space_around_the_path_of_credentials_is_reported(tmp_path: Path) -> None:
    """The path is read by Google's library, which does not strip it."""
    path = tmp_path / "credentials.json"
    path.touch()

    with pytest.raises(SettingsError, match="white space around the path"):
        read_receive_settings(RECEIVE | {"GOOGLE_APPLICATION_CREDENTIALS": f"{path}\n"})


def test_no_repr_contains_a_secret() -> None:
    assert SECRET not in repr(read_receive_settings(RECEIVE))
    assert RESOLVE["DIMMY_API_KEY"] not in repr(read_resolve_settings(RESOLVE))


@pytest.mark.parametrize(
    ("target", "problems"), [("receive", 3), ("resolve", 4), ("reconcile", 4), ("archive", 3)]
)
def test_a_function_with_invalid_settings_does_not_start_and_reports_all_problems(
    target: str, problems: int
) -> None:
    invalid = {"SIGNING_SECRETS": "<WEBHOOK SIGNING SECRET>", "DIMMY_API_KEY": "<secret key>"}
    missing = {"REQUESTS_CA_BUNDLE": "/missing.pem", "HTTPS_PROXY": "socks5://127.0.0.1:1080"}
    function = Function(target, invalid | missing)

    with pytest.raises(StartError) as error:
        function.wait_until_up()

    assert function.process.wait() != 0
    output = str(error.value)
    assert f"{target} cannot start" in output
    assert "STORAGE_URL is missing" in output
    reported = re.findall(r"^  - (\w+)", output, re.MULTILINE)
    assert len(reported) == problems
    assert not any(value in output for value in invalid.values())
    assert "Traceback" not in output


def test_functions_do_not_inherit_the_callers_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sandbox passes only the variables it lists, so that a stray one breaks no test."""
    monkeypatch.setitem(os.environ, "DIMMY_API_KEY", RESOLVE["DIMMY_API_KEY"])
    function = Function("resolve", {"STORAGE_URL": "file:///tmp/none"})

    with pytest.raises(StartError, match="DIMMY_API_KEY is missing"):
        function.wait_until_up()
