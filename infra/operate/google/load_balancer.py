"""The domain of the load balancer: its DNS records and its certificate.

Google issues and renews the certificate only while every A and AAAA record of the domain is an
address of the load balancer, and no CAA record forbids its authorities
(https://cloud.google.com/load-balancing/docs/ssl-certificates/troubleshooting).
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import requests

from operate.console import CommandError
from operate.google.gcloud import Gcloud
from operate.installation import Check

# DNS over HTTPS passes through proxies, and answers what Google's certificate authorities see.
_DNS_URL = "https://dns.google/resolve"
_DNS_SECONDS = 15
_RECORD_TYPES = {"A": 1, "AAAA": 28, "CAA": 257}
_READ_CAA = "It has to allow pki.goog: `dig CAA` shows what it says."
_IN_USE = {"ACTIVE", "RENEWAL_FAILED"}
_ANSWERED = {0, 3}  # records, or no such domain; others are failures (RFC 1035, 4.1.1)
_AUTHORITIES = {"letsencrypt.org", "pki.goog"}


def is_certificate_active(gcloud: Gcloud) -> bool:
    """Whether the certificate of the domain in the environment's file is in use.

    It stays in use when its renewal fails.
    """
    domain = gcloud.deployment.domain
    name = f"{gcloud.deployment.prefix}-receive-{hashlib.sha256(domain.encode()).hexdigest()[:8]}"
    describe = ("compute", "ssl-certificates", "describe", name, "--global")
    if not gcloud.exists(*describe):
        return False
    return _managed(gcloud, name).get("status") in _IN_USE


def check_domain(
    gcloud: Gcloud, outputs: Mapping[str, Any], settings: Mapping[str, str]
) -> Iterator[Check]:
    """Whether the records of the domain lead to the load balancer, and its certificate is active.

    `outputs` are those of Terraform.
    """
    domain = outputs["webhook_url"].removeprefix("https://").rstrip("/")
    dns = _Dns(settings.get("DNS_URL") or _DNS_URL)
    yield _check_addresses(domain, "A", dns, outputs["load_balancer_address"])
    yield _check_addresses(domain, "AAAA", dns, outputs.get("load_balancer_ipv6_address"))
    yield _check_authorities(domain, dns)
    status = _status(gcloud, outputs["certificate"])
    deploy = gcloud.deployment.instructions.command("deploy")
    if status != "ACTIVE":
        yield Check(
            "the certificate",
            f"of {domain} is {status}",
            "Solve what is said above about the domain, then wait: it takes up to an hour. Until"
            " then enter receive's own URL in Dimmy's dashboard.",
        )
    elif outputs["receive_url_open"]:
        remedy = f"{deploy} closes it. Enter https://{domain}/ in Dimmy's dashboard first."
        yield Check("the certificate", "is active, and receive's own URL is still open", remedy)
    else:
        yield Check("the certificate", f"of {domain} is active")


def _check_addresses(domain: str, record: str, dns: "_Dns", expected: str | None) -> Check:
    name = f"the {record} record"
    found = dns.records(domain, record)
    if expected is None:
        if not found:
            return Check(name, f"{domain} has none")
        remedy = "Remove it: the load balancer has no such address, and the certificate waits."
        return Check(name, f"{domain} has {', '.join(found)}", remedy)
    if found == [expected]:
        return Check(name, f"{domain} has {expected}")
    remedy = f"Make it {expected}, and only that."
    return Check(name, f"{domain} has {', '.join(found) or 'none'}", remedy)


def _check_authorities(domain: str, dns: "_Dns") -> Check:
    """The CAA records that apply are those of the nearest domain that has any (RFC 8659, 3)."""
    labels = domain.split(".")
    for start in range(len(labels) - 1):
        parent = ".".join(labels[start:])
        if records := dns.records(parent, "CAA"):
            if any(record.startswith("\\#") for record in records):
                text = ", ".join(records)
                return Check("the CAA record", f"of {parent} cannot be read: {text}", _READ_CAA)
            issuers = {
                value.strip('"').partition(";")[0].strip()
                for _, tag, value in (record.split(" ", 2) for record in records)
                if tag == "issue"
            }
            if not issuers or issuers & _AUTHORITIES:
                return Check("the CAA record", f"of {parent} allows Google's certificates")
            remedy = f'Add to it: {parent}. CAA 0 issue "pki.goog"'
            allowed = ", ".join(sorted(issuers))
            return Check("the CAA record", f"of {parent} allows only {allowed}", remedy)
    return Check("the CAA record", f"{domain} has none, so any authority may issue")


def _status(gcloud: Gcloud, certificate: str) -> str:
    managed = _managed(gcloud, certificate)
    domains = managed.get("domainStatus", {})
    return next(
        (status for status in domains.values() if status != "ACTIVE"),
        str(managed.get("status", "unknown")),
    )


def _managed(gcloud: Gcloud, certificate: str) -> dict[str, Any]:
    """What Google says of a certificate that it manages."""
    described = gcloud.read_json("compute", "ssl-certificates", "describe", certificate, "--global")
    managed: dict[str, Any] = described.get("managed", {})
    return managed


class _Dns:
    """Looks records up with DNS over HTTPS, in the JSON form of Google's resolver."""

    def __init__(self, url: str) -> None:
        self._url = url

    def records(self, domain: str, record: str) -> list[str]:
        """The records of a type, sorted. Raises CommandError where the resolver fails."""
        try:
            response = requests.get(
                self._url, params={"name": domain, "type": record}, timeout=_DNS_SECONDS
            )
            response.raise_for_status()
            answer = response.json()
            status, answers = answer["Status"], answer.get("Answer", [])
        except (OSError, ValueError, LookupError) as error:
            text = f"The {record} record of {domain} cannot be looked up: {type(error).__name__}"
            raise CommandError(text) from error
        if status not in _ANSWERED:
            text = (
                f"The {record} record of {domain} cannot be looked up: the resolver says {status}"
            )
            raise CommandError(text)
        return sorted(each["data"] for each in answers if each["type"] == _RECORD_TYPES[record])
