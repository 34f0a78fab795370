"""The client of Dimmy's API, against an API with many kinds of faults.

One of them: .venv/bin/pytest tests/dimmy/test_client.py -k redirect
"""

import asyncio
import contextlib
import functools
import random
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest
import trustme

from pipeline.deadline import Deadline
from pipeline.dimmy import client as client_module
from pipeline.dimmy.client import (
    ApiKeyRejectedError,
    DimmyClient,
    DimmyError,
    NotFoundError,
)
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.dimmy.settings import read_dimmy_settings
from pipeline.environment import Environment
from sandbox import catalogue
from sandbox.background import Background
from sandbox.dimmy_api import DimmyApi, Fault
from support.dimmy_api import running_api
from support.waiting import WAIT_SECONDS, wait_for

RNG = random.Random()


@pytest.fixture
def api(background: Background) -> Iterator[DimmyApi]:
    with running_api(background) as api:
        yield api


def make_client(api: DimmyApi, **changes: str) -> DimmyClient:
    environment = {
        "DIMMY_API_URL": api.url,
        "DIMMY_API_KEY": api.key,
        "DIMMY_TIMEOUT_SECONDS": "10",  # tests of timeouts have a short one
    }
    return DimmyClient(read_dimmy_settings(Environment(environment | changes)))


def fetch(api: DimmyApi, item_id: str, seconds: float = 30.0, **changes: str) -> bytes:
    return (
        make_client(api, **changes).fetch_item(item_id, Deadline(seconds), RequestStatistics()).line
    )


@pytest.fixture
def item_id(api: DimmyApi) -> str:
    return api.put(catalogue.make_item(RNG))


def test_an_item_is_fetched_unchanged(api: DimmyApi, item_id: str) -> None:
    assert fetch(api, item_id) == api.body_of(item_id)
    assert [(request.path, request.key) for request in api.requests] == [
        (f"/items/{item_id}", api.key)
    ]


def test_a_compressed_item_is_decompressed_and_its_full_size_is_limited(
    api: DimmyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.compress = True
    item_id = api.put(catalogue.padded(catalogue.make_item(RNG), 1_000_000))

    assert fetch(api, item_id) == api.body_of(item_id)

    monkeypatch.setattr(client_module, "MAX_RESPONSE_BYTES", 500_000)
    with pytest.raises(DimmyError, match="over 500000 bytes"):
        fetch(api, item_id)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503, retry_after="0"),
        Fault(status=408),
        Fault(status=429),
        Fault(status=429, retry_after="1"),
        Fault("cut"),
        Fault("cut in the body"),
        Fault("truncated"),
        Fault("not json"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status} {fault.retry_after}",
)
def test_a_transient_fault_is_retried(api: DimmyApi, item_id: str, fault: Fault) -> None:
    fault.times = 2
    api.fail(fault)

    assert fetch(api, item_id) == api.body_of(item_id)
    assert len(api.requests) == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=302, location="http://["),
        Fault(status=302, location="http://127.0.0.1:1/\u00e9"),
        Fault("trickle", status=302),
    ],
    ids=["invalid url", "not ascii", "trickle"],
)
def test_the_target_of_a_redirect_is_not_parsed(api: DimmyApi, item_id: str, fault: Fault) -> None:
    api.fail(fault)

    with pytest.raises(DimmyError, match=r"^302: |timeout"):
        fetch(api, item_id, DIMMY_TIMEOUT_SECONDS="0.5")


def test_a_403_does_not_count_as_a_rejected_key(api: DimmyApi, item_id: str) -> None:
    api.fail(Fault(status=403))

    with pytest.raises(DimmyError) as error:
        fetch(api, item_id)
    assert not isinstance(error.value, ApiKeyRejectedError)


@pytest.mark.parametrize(
    ("fault", "errors"),
    [(Fault(status=503, times=2), 2), (Fault("cut", times=1), 1), (Fault(status=404, times=1), 0)],
)
def test_requests_and_failed_requests_are_counted(
    api: DimmyApi, item_id: str, fault: Fault, errors: int
) -> None:
    api.fail(fault)
    statistics = RequestStatistics()
    assert statistics.log_fields() == {"api_requests": 0}

    with contextlib.suppress(NotFoundError):
        make_client(api).fetch_item(item_id, Deadline(30), statistics)

    counted = statistics.log_fields()
    assert (counted["api_requests"], counted["api_errors"]) == (len(api.requests), errors)
    assert 0 < counted["api_milliseconds"] < 30_000


def test_a_long_retry_after_stops_all_further_requests(api: DimmyApi) -> None:
    item_ids = [api.put(catalogue.make_item(RNG)) for _ in range(20)]
    api.fail(Fault(status=429, retry_after="3600"))
    client = make_client(api, DIMMY_CONCURRENCY="2")
    deadline, statistics = Deadline(5), RequestStatistics()
    refusals = []
    for item_id in item_ids:
        with pytest.raises(DimmyError, match=r"^429: ") as refused:
            client.fetch_item(item_id, deadline, statistics)
        refusals.append(refused)

    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("fault", "reason", "tries"),
    [
        (Fault(status=500), "500: an injected fault", 4),
        (Fault("cut"), "connection failed: ConnectionError", 4),
        (Fault("truncated"), "200, but not JSON", 4),
        (Fault("another item"), "200, but another item was returned", 1),
        (Fault(status=404), "404: ", 1),
        (Fault(status=422), "422: ", 1),
        (Fault(status=302), "302: ", 1),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_a_persistent_fault_is_the_reason(
    api: DimmyApi, item_id: str, fault: Fault, reason: str, tries: int
) -> None:
    api.fail(fault)

    with pytest.raises(DimmyError) as error:
        fetch(api, item_id)

    assert str(error.value).startswith(reason)
    assert len(api.requests) == tries


def test_a_slow_api_is_a_timeout(api: DimmyApi, item_id: str) -> None:
    api.latency = lambda: 5.0

    with pytest.raises(DimmyError, match="timeout"):
        fetch(api, item_id, DIMMY_TIMEOUT_SECONDS="0.1")


def test_a_response_sent_byte_by_byte_is_a_timeout(api: DimmyApi, item_id: str) -> None:
    api.fail(Fault("trickle"))

    with pytest.raises(DimmyError, match="timeout"):
        fetch(api, item_id, DIMMY_TIMEOUT_SECONDS="0.2")


def test_an_error_without_detail_is_reported_by_its_status(api: DimmyApi, item_id: str) -> None:
    api.fail(Fault("bare status", status=418))

    with pytest.raises(DimmyError, match=r"^418: I'm a Teapot$"):
        fetch(api, item_id)


def test_an_unreachable_api_is_a_failed_connection(
    api: DimmyApi, item_id: str, background: Background
) -> None:
    background.run(api.stop())

    with pytest.raises(DimmyError, match="connection failed"):
        fetch(api, item_id)


def test_a_rejected_key_has_its_own_error_and_is_not_retried(api: DimmyApi, item_id: str) -> None:
    with pytest.raises(ApiKeyRejectedError, match=r"^401: Invalid API key$"):
        fetch(api, item_id, DIMMY_API_KEY="another-key-entirely")

    assert len(api.requests) == 1


def test_a_key_echoed_by_the_api_is_removed_from_the_reason(api: DimmyApi, item_id: str) -> None:
    api.fail(Fault(status=403, detail="x" * 190 + f" bad key {api.key}!"))

    with pytest.raises(DimmyError, match=r"^403: x+ bad key \*") as error:
        fetch(api, item_id)
    assert api.key[:8] not in str(error.value)
    assert len(str(error.value)) < 220


def test_a_redirect_is_never_followed(api: DimmyApi, item_id: str) -> None:
    api.fail(Fault(status=302, location=f"{api.url}/stolen"))

    with pytest.raises(DimmyError, match="302"):
        fetch(api, item_id)
    assert [request.path for request in api.requests] == [f"/items/{item_id}"]


def test_the_size_of_a_response_is_limited(
    api: DimmyApi, item_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_RESPONSE_BYTES", 100)

    with pytest.raises(DimmyError, match="over 100 bytes"):
        fetch(api, item_id)


def test_a_retry_after_beyond_the_deadline_ends_the_fetch(api: DimmyApi, item_id: str) -> None:
    api.fail(Fault(status=429, retry_after="3600"))

    with pytest.raises(DimmyError, match=r"^429: "):
        fetch(api, item_id, seconds=5)
    assert len(api.requests) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_429_pauses_every_thread_for_its_retry_after(api: DimmyApi, form: str) -> None:
    item_ids = [api.put(catalogue.make_item(RNG)) for _ in range(8)]
    date = int(time.time()) + 2
    retry_after = "1" if form == "seconds" else formatdate(date, usegmt=True)
    api.fail(Fault(status=429, retry_after=retry_after, times=1))
    client = make_client(api, DIMMY_CONCURRENCY="1")
    deadline, statistics = Deadline(30), RequestStatistics()

    with ThreadPoolExecutor(8) as threads:
        items = list(threads.map(lambda i: client.fetch_item(i, deadline, statistics), item_ids))

    assert [item.item_id for item in items] == item_ids
    limited, *served = api.requests
    assert (limited.status, [request.status for request in served]) == (429, [200] * 8)
    first = min(request.arrived for request in served)
    if form == "seconds":
        # A slow machine only makes the pause longer.
        assert first - limited.arrived >= 0.9
    else:
        # On a slow machine the date may have passed before the first answer.
        assert first + time.time() - time.monotonic() >= date - 0.1


def test_concurrent_requests_never_exceed_the_limit(api: DimmyApi) -> None:
    item_ids = [api.put(catalogue.make_item(RNG)) for _ in range(12)]
    api.hold_requests(item_ids[0])
    client = make_client(api, DIMMY_CONCURRENCY="3")
    deadline, statistics = Deadline(WAIT_SECONDS), RequestStatistics()

    with ThreadPoolExecutor(12) as threads:
        ids = [item_ids[0]] * 3 + item_ids[1:]
        fetched = threads.map(lambda i: client.fetch_item(i, deadline, statistics), ids)
        wait_for(lambda: api.concurrent_requests == 3, "as many requests as are allowed")
        api.latency = lambda: 0.05
        api.hold_requests(None)
        assert len(list(fetched)) == len(ids)

    assert api.max_concurrent_requests == 3


def test_no_request_starts_after_the_deadline(api: DimmyApi, item_id: str) -> None:
    with pytest.raises(DimmyError, match="not tried"):
        fetch(api, item_id, seconds=-1)
    assert api.requests == []


def test_a_netrc_file_is_ignored(
    api: DimmyApi, item_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    assert fetch(api, item_id) == api.body_of(item_id)
    assert [(request.key, request.authorization) for request in api.requests] == [(api.key, None)]


def test_authorities_that_disappear_after_the_start_are_the_reason(tmp_path: Path) -> None:
    """requests then raises an OSError that is not one of its own exceptions."""
    authorities = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authorities))
    settings = {
        "DIMMY_API_URL": "https://localhost:1",
        "DIMMY_API_KEY": "a-test-api-key",
        "REQUESTS_CA_BUNDLE": str(authorities),
    }
    client = DimmyClient(read_dimmy_settings(Environment(settings)))
    authorities.unlink()

    with pytest.raises(DimmyError, match=f"^environment: .*{authorities}"):
        client.fetch_item("a" * 24, Deadline(9), RequestStatistics())


SLOW_RESPONSES = {
    "head": b"HTTP/1.1 200 OK\r\nX-Slow: ",
    "chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;slow=",
}


@pytest.mark.parametrize("part", SLOW_RESPONSES)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_response_that_is_sent_byte_by_byte_ends_with_the_timeout(
    background: Background, tmp_path: Path, tls: bool, part: str
) -> None:
    """A read from the socket never times out, because each byte arrives in time."""
    server_tls = None
    if tls:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(server_tls)
    server = background.run(
        asyncio.start_server(
            functools.partial(_send_slowly, SLOW_RESPONSES[part]), "127.0.0.1", 0, ssl=server_tls
        )
    )
    url = f"http{'s' * tls}://localhost:{server.sockets[0].getsockname()[1]}"
    client = DimmyClient(
        read_dimmy_settings(
            Environment(
                {
                    "DIMMY_API_URL": url,
                    "DIMMY_API_KEY": "a-test-api-key",
                    "DIMMY_TIMEOUT_SECONDS": "0.5",
                    "REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem") if tls else "",
                }
            )
        )
    )
    assert _failure(client, server, background) == "timeout"
    assert [thread.name for thread in threading.enumerate()].count("closer") == 1


def test_a_proxy_that_answers_byte_by_byte_is_a_timeout(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = background.run(
        asyncio.start_server(
            functools.partial(_send_slowly, SLOW_RESPONSES["head"]), "127.0.0.1", 0
        )
    )
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    environment = {
        "DIMMY_API_URL": "https://api.example.com",
        "DIMMY_API_KEY": "a-test-api-key",
        "DIMMY_TIMEOUT_SECONDS": "0.5",
    }
    client = DimmyClient(read_dimmy_settings(Environment(environment)))
    assert _failure(client, server, background) == "timeout"


def _failure(client: DimmyClient, server: asyncio.Server, background: Background) -> str:
    """Why the client cannot fetch an item from this server, which is then closed."""
    with ThreadPoolExecutor(1) as pool:
        fetched = pool.submit(client.fetch_item, "a" * 24, Deadline(1.0), RequestStatistics())
        try:
            wait_for(fetched.done, "the end of the request")
        finally:
            background.run(_close(server))
    return str(fetched.exception())


async def _close(server: asyncio.Server) -> None:
    server.close()  # which is not safe in another thread than its event loop's


async def _send_slowly(
    beginning: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(beginning)
    with contextlib.suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("body", ["no JSON here", '{"message": "no such route"}', "[]"])
def test_a_404_that_is_not_the_apis_does_not_say_that_the_item_is_unknown(
    api: DimmyApi, item_id: str, body: str
) -> None:
    api.fail(Fault("bare status", status=404, detail=body))

    with pytest.raises(DimmyError, match=r"^404, but not from Dimmy's API") as error:
        fetch(api, item_id)
    assert not isinstance(error.value, NotFoundError)
