"""The domain of the load balancer: `make doctor` and `make deploy`.

One of them: .venv/bin/pytest tests/operate/test_domain.py -k certificate
"""

import hashlib
import json
from collections.abc import Iterator

import pytest
from aiohttp import web

from sandbox.background import Background
from sandbox.web_server import WebServer
from support.operator import HEALTHY, Operator

_DOMAIN = "hooks.example.com"
_CERTIFICATE = f"dimmy-dev-receive-{hashlib.sha256(_DOMAIN.encode()).hexdigest()[:8]}"
_ADDRESS, _IPV6_ADDRESS = "203.0.113.7", "2001:db8::7"


class Dns:
    """A resolver with these records, by domain and type."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 0
        self.records: dict[tuple[str, str], list[str]] = {(_DOMAIN, "A"): [_ADDRESS]}

    async def answer(self, request: web.Request) -> web.Response:
        name, record = request.query["name"], request.query["type"]
        number = {"A": 1, "AAAA": 28, "CAA": 257}[record]
        alias = {"name": name, "type": 5, "data": "an.alias.example.com."}
        found = [
            {"name": name, "type": number, "data": data}
            for data in self.records.get((name, record), [])
        ]
        return web.json_response({"Status": self.status, "Answer": [alias, *found]})


def _certificate(status: str, domain_status: str = "") -> tuple[str, str, int]:
    """What gcloud says of the certificate."""
    managed = {"status": status, "domainStatus": {_DOMAIN: domain_status or status}}
    return (f"ssl-certificates describe {_CERTIFICATE}", json.dumps({"managed": managed}), 0)


def _outputs(**outputs: object) -> dict[str, object]:
    return {
        "certificate": _CERTIFICATE,
        "load_balancer_address": _ADDRESS,
        "load_balancer_ipv6_address": None,
        "webhook_url": f"https://{_DOMAIN}/",
        **outputs,
    }


@pytest.fixture
def dns() -> Iterator[Dns]:
    resolver = Dns()
    app = web.Application()
    app.router.add_get("/resolve", resolver.answer)
    with Background() as background:
        server = background.run(WebServer.start(app))
        resolver.url = f"{server.url}/resolve"
        yield resolver
        background.run(server.stop())


def _doctor(operator: Operator, dns: Dns) -> str:
    operator.run("doctor", DIMMY_API_URL="https://127.0.0.1:1", DNS_URL=dns.url)
    return " ".join(operator.printed.split())


def test_doctor_finds_no_fault_in_a_domain_that_leads_to_the_load_balancer(
    operator: Operator, dns: Dns
) -> None:
    dns.records[("example.com", "CAA")] = ['0 issue "letsencrypt.org"', '0 iodef "mailto:a@b.c"']
    operator.set_answers(_certificate("ACTIVE"), *HEALTHY, **_outputs())

    printed = _doctor(operator, dns)

    assert f"fine the A record {_DOMAIN} has {_ADDRESS}" in printed
    assert f"fine the AAAA record {_DOMAIN} has none" in printed
    assert "fine the CAA record of example.com allows Google's certificates" in printed
    assert f"fine the certificate of {_DOMAIN} is active" in printed


def test_doctor_names_the_records_for_which_a_certificate_waits(
    operator: Operator, dns: Dns
) -> None:
    dns.records = {
        (_DOMAIN, "A"): ["198.51.100.1"],
        (_DOMAIN, "AAAA"): ["2001:db8::1"],
        (_DOMAIN, "CAA"): ['0 issue "example-ca.net; account=1"'],
        ("example.com", "CAA"): ['0 issue "pki.goog"'],  # of no effect: the nearest one applies
    }
    operator.set_answers(_certificate("PROVISIONING", "FAILED_NOT_VISIBLE"), *HEALTHY, **_outputs())

    printed = _doctor(operator, dns)

    assert f"WRONG the A record {_DOMAIN} has 198.51.100.1 Make it {_ADDRESS}" in printed
    assert f"WRONG the AAAA record {_DOMAIN} has 2001:db8::1 Remove it" in printed
    assert f"WRONG the CAA record of {_DOMAIN} allows only example-ca.net" in printed
    assert f"WRONG the certificate of {_DOMAIN} is FAILED_NOT_VISIBLE" in printed


def test_doctor_knows_the_ipv6_address_of_the_load_balancer(operator: Operator, dns: Dns) -> None:
    dns.records[(_DOMAIN, "AAAA")] = [_IPV6_ADDRESS]
    operator.set_answers(
        _certificate("ACTIVE"),
        *HEALTHY,
        **_outputs(load_balancer_ipv6_address=_IPV6_ADDRESS, receive_url_open=True),
    )

    printed = _doctor(operator, dns)

    assert f"fine the AAAA record {_DOMAIN} has {_IPV6_ADDRESS}" in printed
    assert "is active, and receive's own URL is still open make deploy ENV=dev" in printed


@pytest.mark.parametrize(
    ("answer", "is_open"),
    [
        (_certificate("ACTIVE"), False),
        (_certificate("RENEWAL_FAILED", "FAILED_CAA_FORBIDDEN"), False),
        (_certificate("PROVISIONING"), True),
        (("ssl-certificates describe", "ERROR: The resource was not found", 1), True),
    ],
    ids=["active", "renewal fails", "provisioning", "not created yet"],
)
def test_deploy_closes_the_functions_own_url_once_the_certificate_is_active(
    operator: Operator, answer: tuple[str, str, int], is_open: bool
) -> None:
    operator.add_variables(f'load_balancer = {{\n  # for Svix\n  domain = "{_DOMAIN}"\n}}')
    operator.set_answers(answer, **_outputs())

    assert operator.run("deploy", YES="1") == 0

    assert ("-var=receive_url_open=true" in operator.call("plan")) == is_open
    assert ("own URL stays open: https://receive.a.run.app" in operator.printed) == is_open
    assert f"Set the domain's A record to {_ADDRESS}" in operator.printed


def test_deploy_leaves_the_functions_own_url_closed_where_the_variables_say_so(
    operator: Operator,
) -> None:
    operator.add_variables(f'load_balancer = {{ domain = "{_DOMAIN}" }}\nreceive_url_open = false')
    operator.set_answers(_certificate("PROVISIONING"), **_outputs())

    assert operator.run("deploy", YES="1") == 0

    assert not any("receive_url_open" in part for part in operator.call("plan"))


def test_doctor_says_that_dns_cannot_be_asked(operator: Operator, dns: Dns) -> None:
    operator.set_answers(_certificate("ACTIVE"), *HEALTHY, **_outputs())
    dns.url = "http://127.0.0.1:1/"

    assert f"The A record of {_DOMAIN} cannot be looked up" in _doctor(operator, dns)


def test_doctor_does_not_take_a_failure_of_dns_for_a_missing_record(
    operator: Operator, dns: Dns
) -> None:
    operator.set_answers(_certificate("ACTIVE"), *HEALTHY, **_outputs())
    dns.status = 2  # SERVFAIL

    printed = _doctor(operator, dns)

    assert "cannot be looked up: the resolver says 2" in printed
    assert "any authority may issue" not in printed
