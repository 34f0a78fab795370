"""`make send`: to a `make run`, and to an installation in Google Cloud.

One of them: .venv/bin/pytest tests/operate/test_send.py -k dead
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from operate.commands import redrive, send, trace
from operate.console import CommandError, UsageError
from sandbox import catalogue
from sandbox.environment import announce
from sandbox.log_file import LogFile
from sandbox.processes import free_port
from sandbox.stack import Stack, new_secret, start_stack
from support.commands import printed_by
from support.operator import DEPLOYED, HEALTHY, Endpoint, Operator
from support.waiting import wait_for

RNG = random.Random()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("run")
    log_file = LogFile(folder)
    with (
        start_stack(
            folder, backoff_seconds=(0.2, 0.5), keeps_messages=True, on_log=log_file.add
        ) as running,
        announce(running.running, folder),
    ):
        yield running


def sent(stack: Stack, **settings: str) -> tuple[int, str]:
    return printed_by(send.run, stack.folder, **settings)


def new_items(stack: Stack, number: int) -> list[str]:
    assert stack.api
    return [stack.api.put(catalogue.make_item(RNG)) for _ in range(number)]


def test_items_are_sent_by_their_ids(stack: Stack) -> None:
    first, second = new_items(stack, 2)

    status, printed = sent(stack, ITEMS=f"{first}, {second}")

    assert status == 0, printed
    found = re.search(
        r"204: http://\S+/webhook has accepted (\S+)\. make trace EVENT=\1 shows", printed
    )
    assert found
    wait_for(lambda: stack.item(first) and stack.item(second), "the items")
    wait_for(lambda: printed_by(trace.run, stack.folder, EVENT=found[1])[0] == 0, "the event")


def test_a_whole_item_is_sent_as_a_full_payload(stack: Stack, tmp_path: Path) -> None:
    item = catalogue.make_item(RNG) | {"flow_id": "größer 🌧"}
    file = tmp_path / "item.json"
    file.write_text(json.dumps(item, ensure_ascii=False, indent=2), "utf-8")

    assert sent(stack, FULL=str(file), EVENT="msg_full")[0] == 0

    stored = wait_for(lambda: stack.item(item["_id"]), "the item")
    assert json.loads(stored) == item
    wait_for(lambda: stack.receipt("msg_full"), "the receipt")


def test_any_text_is_sent_as_it_is_to_any_endpoint(
    stack: Stack, tmp_path: Path, endpoint: Callable[..., Endpoint]
) -> None:
    file = tmp_path / "event.json"
    file.write_bytes(b'{"a":\t[1 ,2]}\r\n')
    other = endpoint((200, {}))

    assert sent(stack, FILE=str(file), URL=other.url, SECRET=new_secret())[0] == 0
    assert sent(stack, FILE=str(file), EVENT="msg_odd")[0] == 0

    assert other.bodies == [b'{"a":\t[1 ,2]}\r\n']
    receipt = wait_for(lambda: stack.receipt("msg_odd"), "the receipt")
    assert receipt["outcome"] == "unrecognised"


def test_an_answer_other_than_204_is_printed_and_fails(stack: Stack) -> None:
    status, printed = sent(stack, ITEMS="67c8", SECRET=new_secret())

    assert status == 1
    assert printed.startswith("401: No signature matches")


def test_a_dead_letter_made_at_once_can_be_redriven(stack: Stack) -> None:
    (item_id,) = new_items(stack, 1)

    status, printed = sent(stack, ITEMS=item_id, EVENT="msg_dead", DEAD_LETTER="1")

    assert status == 0
    assert printed == "msg_dead is a dead letter: make redrive resolves it.\n"
    assert (
        "keeps it among the dead letters"
        in printed_by(trace.run, stack.folder, EVENT="msg_dead")[1]
    )
    assert stack.item(item_id) is None
    assert printed_by(redrive.run, stack.folder)[0] == 0
    assert stack.item(item_id)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "Name what to send: FILE=event.json"),
        ({"FILE": "a", "ITEMS": "b"}, "Name what to send"),
        ({"ITEMS": "67c8,../x"}, "'../x' is not an item's id"),
        ({"ITEMS": "67c8,"}, "'' is not an item's id"),
        ({"FILE": "{folder}/missing.json"}, "cannot be read: No such file"),
        ({"FILE": "{folder}/latin1"}, "is not UTF-8 text"),
        ({"FULL": "{folder}/event.json"}, "is not an item: its _id is missing"),
        ({"FULL": "{folder}/latin1"}, "is not UTF-8 text"),
        ({"ITEMS": "67c8", "URL": "localhost:8080"}, "URL=localhost:8080 is not a URL"),
        ({"ITEMS": "67c8", "URL": "http://["}, "URL=http://[ is not a URL"),
        ({"ITEMS": "67c8", "URL": "https://example.com/hook"}, "SECRET is missing"),
        ({"ITEMS": "67c8", "SECRET": "whsec"}, "SECRET "),
        ({"ITEMS": "67c8"}, "There is no endpoint: start `make run`"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_one_sentence(
    tmp_path: Path, settings: dict[str, str], problem: str
) -> None:
    (tmp_path / "event.json").write_text('{"item_ids": []}')
    (tmp_path / "latin1").write_bytes("größer".encode("latin-1"))
    settings = {name: value.format(folder=tmp_path) for name, value in settings.items()}

    with pytest.raises(UsageError) as refused:
        printed_by(send.run, tmp_path, **settings)

    assert problem in str(refused.value)


def test_an_endpoint_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/"

    with pytest.raises(CommandError, match=f"{url} cannot be reached: ConnectionError"):
        printed_by(send.run, tmp_path, ITEMS="67c8", URL=url, SECRET=new_secret())


def test_an_installation_in_google_cloud_gets_it_once_a_person_agrees(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    receive = endpoint((204, {}))
    operator.set_answers(*HEALTHY, webhook_url=f"{receive.url}webhook")

    assert operator.run("send", ITEMS="67c8") == 2
    assert "Nothing was sent." in operator.printed
    assert receive.requests == []

    assert operator.run("send", ITEMS="67c8", YES="1") == 0
    assert receive.bodies == [b'{"item_ids": ["67c8"]}']
    assert "make trace EVENT=msg_send" in operator.printed
    assert "ENV=dev PROJECT=warehouse-1 shows" in operator.printed


def test_an_installation_in_google_cloud_takes_no_dead_letter(operator: Operator) -> None:
    operator.set_answers(*HEALTHY)

    assert operator.run("send", ITEMS="67c8", DEAD_LETTER="1") == 2

    assert "Only `make run` takes a dead letter" in operator.printed
    assert DEPLOYED["topic"] not in str(operator.calls)


def test_the_secret_of_another_endpoint_is_asked_for_and_not_shown(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    other, secret = endpoint((200, {})), new_secret()

    assert operator.type("send", secret, "yes", ITEMS="67c8", URL=other.url) == 0

    assert other.bodies == [b'{"item_ids": ["67c8"]}']
    assert secret not in operator.printed


@pytest.mark.parametrize(("typed", "problem"), [("", "SECRET is missing"), ("\x04", "Nothing")])
def test_without_the_secret_of_another_endpoint_nothing_is_sent(
    operator: Operator, endpoint: Callable[..., Endpoint], typed: str, problem: str
) -> None:
    other = endpoint((200, {}))

    assert operator.type("send", typed, ITEMS="67c8", URL=other.url) == 2

    assert problem in operator.printed
    assert other.requests == []
