"""What `make` does with an installation: the right calls, in the right order, and nothing after a
failure. gcloud and terraform are stand-ins here that write down their calls.

One of them: .venv/bin/pytest tests/test_operate.py -k deploy
"""

import http.server
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from conftest import wait_for
from operate.cloud import ROOT
from sandbox import catalogue
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from sandbox.processes import Process, free_port
from sandbox.secrecy import refuse_secrets
from sandbox.stack import new_secret

GCLOUD = shutil.which("gcloud")
DEPLOYED: dict[str, Any] = {
    "bucket": "warehouse-1-dimmy-dev-data",
    "dead_letter_subscription": "projects/warehouse-1/subscriptions/dimmy-dev-dead-letters",
    "functions": {
        name: {"name": f"dimmy-dev-{name}", "url": f"https://{name}.a.run.app"}
        for name in ("receive", "resolve", "reconcile")
    },
    "load_balancer_address": None,
    "pusher": "dimmy-dev-pusher@warehouse-1.iam.gserviceaccount.com",
    "region": "europe-west1",
    "scheduler_jobs": {
        "hourly": "projects/warehouse-1/locations/europe-west1/jobs/dimmy-dev-reconcile-hourly"
    },
    "subscription": "projects/warehouse-1/subscriptions/dimmy-dev-resolve",
    "topic": "projects/warehouse-1/topics/dimmy-dev-events",
    "webhook_url": "https://receive.a.run.app",
}

Answer = tuple[str, str, int]

SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
API_KEY = "an-api-key-of-nobody"
HEALTHY: list[Answer] = [
    ("versions access --secret=dimmy-dev-signing-secrets", SIGNING_SECRET, 0),
    ("versions access", API_KEY, 0),
    (
        "subscriptions describe",
        json.dumps({"pushConfig": {"pushEndpoint": "https://resolve.a.run.app"}}),
        0,
    ),
]


class Operator:
    """A person at a terminal, with stand-ins for gcloud and terraform, in a copy of the tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "tree"
        for name in ("function", "infra"):
            shutil.copytree(ROOT / name, self.tree / name)
        shutil.copyfile(ROOT / "requirements.txt", self.tree / "requirements.txt")
        self.programs = folder / "bin"
        self.programs.mkdir()
        stand_in = Path(__file__).with_name("stand_in.py").read_text()
        for name in ("gcloud", "terraform"):
            program = self.programs / name
            program.write_text(f"#!{sys.executable}\n{stand_in}")
            program.chmod(0o755)
        self.said = ""
        self.answer()

    def answer(self, *answers: Answer, **outputs: Any) -> None:
        """What the stand-ins answer; before what they answer anyway."""
        deployed = {name: {"value": value} for name, value in (DEPLOYED | outputs).items()}
        usual: list[Answer] = [
            ("terraform output", json.dumps(deployed), 0),
            ("terraform show", json.dumps({"resource_changes": []}), 0),
            ("secrets versions list", "3", 0),
            ("secrets versions add", "4", 0),
            ("print-access-token", "an-access-token", 0),
            ("print-identity-token", "an-identity-token", 0),
            ("functions describe", '{"state": "ACTIVE", "labels": {"version": "0123"}}', 0),
            ("jobs describe", '{"lastAttemptTime": "2026-11-01T08:17:00Z", "status": {}}', 0),
        ]
        (self.folder / "answers.json").write_text(json.dumps([*answers, *usual]))

    def run(self, command: str, *, given: str = "", **settings: str) -> int:
        """Run a command without a terminal; return its exit status."""
        done = subprocess.run(
            self._command(command),
            env=self.environment(settings),
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.said = done.stdout + done.stderr
        refuse_secrets(command, [self.said], [API_KEY])
        return done.returncode

    def type(self, command: str, *typed: str, **settings: str) -> int:
        """Run a command on a terminal and type these lines; return its exit status."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(sys.executable, self._command(command), self.environment(settings))
        said = b""
        lines = list(typed)
        while True:
            try:
                said += os.read(terminal, 4096)
            except OSError:  # the end, as Linux tells it of a terminal
                break
            if lines and said.rstrip(b" ").endswith(b":"):
                os.write(terminal, lines.pop(0).encode() + b"\n")
        os.close(terminal)
        self.said = said.decode()
        refuse_secrets(command, [self.said], [API_KEY])
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def start(self, command: str, **settings: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self._command(command),
            env=self.environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    @property
    def calls(self) -> list[list[str]]:
        """Program, arguments and standard input of each call so far."""
        written = self.folder / "calls.jsonl"
        return (
            [json.loads(line) for line in written.read_text().splitlines()]
            if written.exists()
            else []
        )

    @property
    def steps(self) -> list[str]:
        """The calls in short: without options, and without what was given."""
        plain = [[part for part in call[:-1] if not part.startswith("-")] for call in self.calls]
        return [" ".join(call) for call in plain]

    @property
    def verbs(self) -> list[str]:
        """What was called first of each program: `plan`, `secrets`, ..."""
        return [step.split()[1] for step in self.steps]

    def call(self, *words: str) -> list[str]:
        """The only call with these words."""
        (found,) = [call for call in self.calls if set(words) <= set(call)]
        return found

    def _command(self, command: str) -> list[str]:
        module, *options = command.split()
        return [sys.executable, "-m", f"operate.{module}", *options]

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        """That of a command which meets the stand-ins."""
        passed_on = {k: v for k, v in os.environ.items() if k.startswith(("COVERAGE", "HOME"))}
        return passed_on | {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "PYTHONPATH": f"{self.tree}/function:{self.tree}/infra",
            "STAND_IN": str(self.folder),
            "ENV": "dev",
            "PROJECT": "warehouse-1",
            "TERM": "dumb",
            **settings,
        }


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


class Endpoint:
    """A server on loopback that answers with these, one after the other, the last one for ever."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.requests: list[tuple[str, str | None]] = []
        waiting = list(answers)
        requests = self.requests

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                requests.append((self.path, self.headers.get("Authorization")))
                status, body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Callable[..., Endpoint]]:
    started: list[Endpoint] = []

    def start(*answers: tuple[int, Any]) -> Endpoint:
        started.append(Endpoint(*answers))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def test_deploy_packages_plans_applies_and_says_what_is_left(operator: Operator) -> None:
    assert operator.run("deploy", YES="1") == 0

    secrets = "gcloud secrets versions list dimmy-dev"
    assert operator.steps[:2] == [f"{secrets}-api-key", f"{secrets}-signing-secrets"]
    assert operator.verbs[2:] == ["init", "plan", "show", "apply", "init", "output"]
    init, plan, _show, apply = operator.calls[2:6]
    assert init[1:-1] == [
        f"-chdir={operator.tree}/infra",
        "init",
        "-input=false",
        "-reconfigure",
        "-backend-config=envs/dev.gcs.tfbackend",
        "-backend-config=bucket=warehouse-1-dimmy-terraform-state",
    ]
    (archive,) = (operator.tree / ".build").glob("dimmy-*.zip")
    build = operator.tree / ".build" / "warehouse-1-dev"
    assert plan[3:-1] == [
        "-input=false",
        "-var-file=envs/dev.tfvars",
        "-var=project=warehouse-1",
        f"-var=archive=../.build/{archive.name}",
        '-var=secret_versions={"api_key": "3", "signing_secrets": "3"}',
        f"-out={build}/plan",
    ]
    assert apply[2:-1] == ["apply", "-input=false", f"{build}/plan"]
    assert "https://receive.a.run.app" in operator.said
    assert "make secrets ENV=dev PROJECT=warehouse-1" in operator.said


def test_plan_changes_nothing(operator: Operator) -> None:
    assert operator.run("deploy --plan") == 0

    assert operator.verbs[2:] == ["init", "plan", "show"]


@pytest.mark.parametrize(
    ("typed", "status", "last"), [("yes", 0, "output"), ("no", 2, "show"), ("", 2, "show")]
)
def test_a_deployment_waits_for_a_yes(
    operator: Operator, typed: str, status: int, last: str
) -> None:
    assert operator.type("deploy", typed) == status

    assert operator.verbs[-1] == last
    assert ("Nothing was changed" in operator.said) == (status == 2)


def test_without_a_terminal_nothing_changes_unless_yes_is_said_beforehand(
    operator: Operator,
) -> None:
    assert operator.run("deploy") == 2

    assert operator.verbs[-1] == "show"
    assert "YES=1" in operator.said


@pytest.mark.parametrize(
    "failing", ["versions list", "terraform init", "terraform plan", "terraform apply"]
)
def test_nothing_is_called_after_a_failure(operator: Operator, failing: str) -> None:
    operator.answer((failing, "permission denied by the stand-in", 1))

    assert operator.run("deploy", YES="1") == 1

    assert all(word in " ".join(operator.calls[-1]) for word in failing.split())
    assert "permission denied by the stand-in" in operator.said
    assert "receive.a.run.app" not in operator.said


def test_a_secret_without_a_value_stops_a_deployment_before_it_begins(operator: Operator) -> None:
    operator.answer(("versions list signing-secrets", "", 0))

    assert operator.run("deploy", YES="1") == 2

    assert "dimmy-dev-signing-secrets has no value yet: make secrets" in operator.said
    assert not any(call[0] == "terraform" for call in operator.calls)


def test_bootstrap_makes_what_has_to_be_there_first(operator: Operator) -> None:
    operator.answer(("buckets describe", "ERROR: (gcloud) 404: not found", 1))

    assert operator.run("bootstrap", YES="1") == 0

    state = "gs://warehouse-1-dimmy-terraform-state"
    assert operator.steps[0].startswith(
        "gcloud services enable cloudresourcemanager.googleapis.com"
    )
    assert operator.steps[1:4] == [
        f"gcloud storage buckets {verb} {state}" for verb in ("describe", "create", "update")
    ]
    create = operator.call("create", state)
    assert {"--location=europe-west1", "--public-access-prevention"} <= set(create)
    assert operator.verbs[4:] == ["init", "plan", "apply"]
    plan = operator.call("plan")
    assert {
        "-target=google_logging_metric.this",
        "-target=google_secret_manager_secret.this",
        "-target=google_service_account.this",
    } <= set(plan)
    assert "make secrets ENV=dev PROJECT=warehouse-1" in operator.said


def test_bootstrap_can_be_repeated(operator: Operator) -> None:
    assert operator.run("bootstrap", YES="1") == 0

    assert not any("create" in call for call in operator.calls)


def test_bootstrap_does_not_take_a_refusal_for_an_absence(operator: Operator) -> None:
    operator.answer(("buckets describe", "ERROR: 403 no permission", 1))

    assert operator.run("bootstrap", YES="1") == 1

    assert operator.steps[-1].startswith("gcloud storage buckets describe")


def test_bootstrap_changes_nothing_before_it_has_said_what(operator: Operator) -> None:
    assert operator.type("bootstrap", "no") == 2

    assert "gs://warehouse-1-dimmy-terraform-state" in operator.said.replace("\r\n", "")
    assert operator.calls == []


def test_secrets_go_from_standard_input_to_standard_input(operator: Operator) -> None:
    secret = new_secret()

    given = f"# of the endpoint\nSIGNING_SECRETS={secret}\nDIMMY_API_KEY='{API_KEY}'\nPORT=8080\n"
    assert operator.run("secrets", given=given) == 0

    assert operator.call("dimmy-dev-signing-secrets")[-1] == secret
    assert operator.call("dimmy-dev-api-key")[-1] == API_KEY
    shown = operator.said + str([call[:-1] for call in operator.calls])
    assert secret not in shown
    assert API_KEY not in shown
    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.said


def test_secrets_are_asked_for_without_an_echo_until_their_form_is_right(
    operator: Operator,
) -> None:
    secret = new_secret()

    assert operator.type("secrets", "not-a-secret", secret, API_KEY) == 0

    assert "does not begin with whsec_" in operator.said
    assert operator.call("dimmy-dev-signing-secrets")[-1] == secret
    assert operator.call("dimmy-dev-api-key")[-1] == API_KEY
    for typed in ("not-a-secret", secret, API_KEY):
        assert typed not in operator.said


def test_enter_leaves_a_secret_as_it_is(operator: Operator) -> None:
    assert operator.type("secrets", "", API_KEY) == 0

    assert [call[4] for call in operator.calls if "add" in call] == ["dimmy-dev-api-key"]


def test_before_there_is_an_endpoint_its_secret_is_one_that_nobody_knows(
    operator: Operator,
) -> None:
    operator.answer(("versions list signing-secrets", "", 0))

    assert operator.run("secrets", given=f"DIMMY_API_KEY={API_KEY}\n") == 0

    placeholder = operator.call("add", "dimmy-dev-signing-secrets")[-1]
    assert placeholder.startswith("whsec_")
    assert placeholder not in operator.said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("SIGNING_SECRETS=whsec_c2hvcnQ=\n", "SIGNING_SECRETS secret 1 of 1 is a key of 5 bytes"),
        ("DIMMY_API_KEY=<your key>\n", "DIMMY_API_KEY does not look like an API key"),
        ("", "No value was given"),
    ],
)
def test_a_secret_of_the_wrong_form_is_never_stored(
    operator: Operator, given: str, said: str
) -> None:
    assert operator.run("secrets", given=given) == 2

    assert said in operator.said
    assert operator.calls == []


def test_destroy_shows_asks_and_deletes(operator: Operator) -> None:
    assert operator.type("destroy", "yes") == 0

    assert operator.verbs == ["init", "plan", "show", "apply"]
    assert "-destroy" in operator.call("plan")


def test_destroy_leaves_a_protected_installation_alone(operator: Operator) -> None:
    operator.answer(("terraform show", deleting("google_storage_bucket.data", "PREVENT"), 0))

    assert operator.run("destroy", ENV="prod", YES="1") == 2

    assert "deletion_protection = false" in operator.said
    assert operator.verbs == ["init", "plan", "show"]


def test_deploy_refuses_a_plan_that_deletes_what_is_protected(operator: Operator) -> None:
    operator.answer(("terraform show", deleting("google_storage_bucket.data", "PREVENT"), 0))

    assert operator.run("deploy", YES="1") == 2

    assert "This would delete google_storage_bucket.data" in operator.said
    assert operator.verbs[-1] == "show"


def test_deploy_may_replace_what_is_not_protected(operator: Operator) -> None:
    operator.answer(("terraform show", deleting("google_cloud_scheduler_job.x", "DELETE"), 0))

    assert operator.run("deploy", YES="1") == 0


@pytest.mark.parametrize(
    ("typed", "last"), [("yes", "show"), ("destroy-prod", "apply")], ids=["a yes", "the word"]
)
def test_destroying_prod_takes_a_word_in_full(operator: Operator, typed: str, last: str) -> None:
    operator.type("destroy", typed, ENV="prod")

    assert operator.verbs[-1] == last


def test_destroying_prod_takes_a_person(operator: Operator) -> None:
    assert operator.run("destroy", ENV="prod", YES="1") == 2

    assert operator.verbs[-1] == "show"


def test_redrive_pushes_the_letters_to_resolve_and_holds_the_rest(operator: Operator) -> None:
    operator.answer(*letters("msg_1", "msg_2"), *receipts(msg_1="done", msg_2="partial"))

    assert operator.run("redrive", YES="1", PAUSE_SECONDS="0.1", PATIENCE_SECONDS="1") == 1

    subscription = DEPLOYED["dead_letter_subscription"]
    back = operator.call("modify-message-ack-deadline")
    assert {"--ack-ids=ack-msg_1,ack-msg_2", "--ack-deadline=0", subscription} <= set(back)
    held, push, hold = [call for call in operator.calls if "modify-push-config" in call]
    assert push[4:8] == [
        subscription,
        "--push-endpoint=https://resolve.a.run.app",
        "--push-auth-service-account=dimmy-dev-pusher@warehouse-1.iam.gserviceaccount.com",
        "--push-auth-token-audience=https://resolve.a.run.app",
    ]
    assert held[4:6] == hold[4:6] == [subscription, "--push-endpoint="]
    first = next(call for call in operator.calls if "pubsub" in call)
    assert first == held, "what pushes cannot be pulled from"
    assert "2 dead letters were there." in operator.said
    assert "msg_2  partial, 1 items open: 404: Item not found" in operator.said
    assert operator.said.rstrip().endswith("1 are left.")


def test_redrive_asks_before_it_pushes(operator: Operator) -> None:
    operator.answer(*letters("msg_1"), *receipts(msg_1="partial"))

    assert operator.type("redrive", "no") == 2

    assert not any("resolve.a.run.app" in part for call in operator.calls for part in call)


@pytest.mark.parametrize("counted", [0, 3])
def test_redrive_without_letters_pushes_nothing_and_tells_of_those_that_rest(
    operator: Operator, endpoint: Callable[..., Endpoint], counted: int
) -> None:
    operator.answer(("subscriptions pull", "[]", 0))
    monitoring = endpoint((200, series(counted)))

    status = operator.run("redrive", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url)

    assert "0 dead letters were there." in operator.said
    assert not any("resolve.a.run.app" in part for call in operator.calls for part in call)
    assert status == bool(counted)
    assert ("counted 3" in operator.said) == bool(counted)


def test_a_redrive_that_is_interrupted_holds_the_letters_again(operator: Operator) -> None:
    operator.answer(*letters("msg_1"), *receipts(msg_1="partial"))
    running = operator.start("redrive", YES="1", PAUSE_SECONDS="0.1")

    wait_for(lambda: any("resolve.a.run.app" in " ".join(call) for call in operator.calls))
    running.send_signal(2)

    assert running.wait(30) == 130
    assert "--push-endpoint=" in operator.calls[-2] or "--push-endpoint=" in operator.calls[-1]


def test_letters_without_a_receipt_are_shown_as_such(operator: Operator) -> None:
    nothing = ("storage cat", "ERROR: The following URLs matched no objects or files", 1)
    operator.answer(*letters("msg_1", "msg_2"), nothing)

    assert operator.run("redrive") == 2

    assert "msg_1  no receipt" in operator.said


def test_backfill_goes_day_by_day_and_asks_again_for_what_is_unfinished(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    done = {"seen": 5, "stored": 2, "updated": 1, "unchanged": 2, "failed": 0}
    reconcile = endpoint((503, done | {"message": "Ask again: 500."}), (200, done))
    operator.answer(
        functions=DEPLOYED["functions"] | {"reconcile": {"name": "r", "url": reconcile.url}}
    )

    assert operator.run("backfill", SINCE="2026-11-01", UNTIL="2026-11-03T12:00", YES="1") == 0

    windows = [path for path, _ in reconcile.requests]
    utc = "%3A00%3A00%2B00%3A00"
    day = f"/?start_date=2026-11-0{{}}T00{utc}&end_date=2026-11-0{{}}T{{}}{utc}"
    assert windows == [
        day.format(1, 2, "00"),
        day.format(1, 2, "00"),
        day.format(2, 3, "00"),
        day.format(3, 3, "12"),
    ]
    assert {token for _, token in reconcile.requests} == {"Bearer an-identity-token"}
    assert "15 seen, 6 stored, 3 updated, 6 unchanged, 0 failed" in operator.said
    assert "an-identity-token" not in operator.said


def test_backfill_is_honest_about_what_is_unfinished(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    reconcile = endpoint((503, {"message": "Ask again: 500."}))
    operator.answer(
        functions=DEPLOYED["functions"] | {"reconcile": {"name": "r", "url": reconcile.url}}
    )

    assert operator.run("backfill", SINCE="2026-11-01", UNTIL="2026-11-02", YES="1") == 1

    assert len(reconcile.requests) == 3
    assert "unfinished: 2026-11-01" in operator.said


def test_backfill_says_which_role_is_missing(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    reconcile = endpoint((403, {}))
    operator.answer(
        functions=DEPLOYED["functions"] | {"reconcile": {"name": "r", "url": reconcile.url}}
    )

    assert operator.run("backfill", SINCE="2026-11-01", UNTIL="2026-11-05", YES="1") == 1

    assert "roles/run.invoker" in operator.said
    assert len(reconcile.requests) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "SINCE is missing"),
        ({"SINCE": "yesterday"}, "SINCE=yesterday is no date"),
        ({"SINCE": "2026-11-02", "UNTIL": "2026-11-01"}, "Nothing lies between"),
    ],
)
def test_backfill_wants_a_window(operator: Operator, settings: dict[str, str], said: str) -> None:
    assert operator.run("backfill", **settings) == 2

    assert said in operator.said
    assert operator.calls == []


def test_logs_are_asked_for_by_function_time_and_event(operator: Operator) -> None:
    entry = {
        "timestamp": "2026-11-01T08:00:00.123456Z",
        "severity": "WARNING",
        "resource": {"labels": {"service_name": "dimmy-dev-resolve"}},
        "jsonPayload": {"message": "event partial", "event_id": "msg_1"},
    }
    operator.answer(("logging read", json.dumps([entry]), 0))

    assert operator.run("logs", LAST="2d", EVENT="msg_1", SEVERITY="WARNING") == 0

    asked = operator.call("logging", "read")
    assert asked[3] == (
        'resource.type="cloud_run_revision" AND resource.labels.service_name='
        '("dimmy-dev-receive" OR "dimmy-dev-resolve" OR "dimmy-dev-reconcile")'
        ' AND jsonPayload.event_id="msg_1" AND severity>=WARNING'
    )
    assert "--freshness=2d" in asked
    assert "2026-11-01 08:00:00.123 WARNING resolve   event partial event_id=msg_1" in operator.said


@pytest.mark.parametrize("settings", [{"EVENT": 'x" OR "1"="1'}, {"LAST": "soon"}, {"LIMIT": "0"}])
def test_logs_take_no_nonsense(operator: Operator, settings: dict[str, str]) -> None:
    assert operator.run("logs", **settings) == 2

    assert operator.calls == []


def test_status_is_good_when_all_is_well(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    monitoring = endpoint((200, {}))

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 0

    assert re.search(r"dimmy-dev-resolve +ACTIVE, version 0123", operator.said)
    assert re.search(r"events +0 in the last hour, 0 in the last day", operator.said)
    assert {token for _, token in monitoring.requests} == {"Bearer an-access-token"}


def test_status_names_what_needs_a_person_and_the_command_that_helps(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    monitoring = endpoint((200, series(7)), (200, series(1000)), (200, series(12)))
    repaired = log_entry(
        "reconcile", 9, message="reconcile done", stored=3.0, updated=1.0, seen=340.0
    )
    operator.answer(
        ("functions describe dimmy-dev-resolve", '{"state": "FAILED"}', 0),
        ("jobs describe", '{"lastAttemptTime": "2026-11-01T08:17:00Z", "status": {"code": 14}}', 0),
        ("logging read webhook", json.dumps([PUBLISHED]), 0),
        ("logging read reconcile done", json.dumps([repaired]), 0),
        ("logging read severity>=ERROR", json.dumps([REFUSED]), 0),
    )

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 1

    assert "make redrive ENV=dev PROJECT=warehouse-1" in operator.said
    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.said
    assert "make logs SEVERITY=WARNING ENV=dev PROJECT=warehouse-1" in operator.said
    assert "make logs SEVERITY=ERROR ENV=dev PROJECT=warehouse-1" in operator.said
    assert "1000 s" in operator.said
    for said in (
        r"last event +2026-11-01T08:00:06 ",
        r"events +13 in the last hour, 13 in the last day",
        r"errors in the last hour +1 +make logs SEVERITY=ERROR ENV=dev",
        r"repaired by reconcile +3 stored and 1 updated of 340, 2026-11-01T08:00:09",
    ):
        assert re.search(said, operator.said), said


def test_view_shows_what_lies_in_the_bucket_and_how_it_stands(
    operator: Operator, endpoint: Callable[..., Endpoint], background: Background
) -> None:
    shutil.copytree(ROOT / "tests" / "sandbox", operator.tree / "tests" / "sandbox")
    storage = CloudStorage()
    background.run(storage.start())
    line = json.dumps(catalogue.VENDOR_EXAMPLE).encode()
    storage.place(f"{DEPLOYED['bucket']}/items/67c861de20bb29fb40d2cbbd.json", line)
    url = f"http://127.0.0.1:{free_port()}/"
    settings = {
        "PYTHONPATH": ":".join(str(operator.tree / x) for x in ("function", "infra", "tests")),
        "PYTHONUNBUFFERED": "1",
        "STORAGE_EMULATOR_HOST": storage.url,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING": endpoint((200, series(7))).url,
        "VIEW_PORT": url.rstrip("/").rpartition(":")[2],
    }
    view = Process([sys.executable, "-m", "sandbox.view"], operator.environment(settings))
    try:
        view.wait_until(lambda: any(url in line for line in view.lines))

        def page() -> str:
            return requests.get(url, timeout=5).text

        wait_for(lambda: "A0155C35" in page(), "the item")
        wait_for(lambda: "<code>make redrive ENV=dev PROJECT=warehouse-1" in page(), "the state")
        assert "<small>dev in warehouse-1</small>" in page()
    finally:
        view.stop()
        background.run(storage.stop())


def test_what_is_not_deployed_is_said_to_be_so(operator: Operator) -> None:
    operator.answer(("terraform output", "{}", 0))

    assert operator.run("status") == 2

    assert "Nothing is deployed as dev in warehouse-1 yet: make deploy" in operator.said


def log_entry(function: str, second: int, **fields: Any) -> dict[str, Any]:
    """One line as Cloud Logging gives it: numbers are floating ones there."""
    return {
        "timestamp": f"2026-11-01T08:00:{second:02}.123456789Z",
        "severity": "INFO",
        "resource": {"labels": {"service_name": f"dimmy-dev-{function}"}},
        "jsonPayload": {"event_id": "msg_1", **fields},
    }


REFUSED = log_entry("receive", 1, outcome="unavailable", status=503.0, reason="storage: away")
PUBLISHED = log_entry(
    "receive", 6, outcome="published", status=204.0, bytes=1490.0, source="52.215.16.239"
)
PARTIAL = log_entry(
    "resolve", 8, outcome="partial", attempt=1.0, items=2.0, failed=1.0, reason="67c9: 404"
)
RECEIPT = {
    "event_id": "msg_1",
    "kind": "items.scanned",
    "received_at": "2026-11-01T08:00:06Z",
    "attempts": 1,
    "outcome": "partial",
    "items": {"67c8": "stored", "67c9": "404: gone"},
}


TOLD = """\
msg_1
2026-11-01 08:00:01.123  receive   refused    503 unavailable: storage: away
2026-11-01 08:00:06.123  receive   received   204 published, 1,490 bytes, from 52.215.16.239
2026-11-01 08:00:08.123  resolve   attempt 1  partial, 2 items, 1 of them not stored: 67c9: 404
The receipt: items.scanned, partial, attempts 1, received 2026-11-01T08:00:06Z
67c9  404: gone
67c8  stored
1 item not stored yet; Pub/Sub has given up and keeps it among the dead letters.
To do: Dimmy's API does not know the item, at least not with this key: is the key of the account \
that scanned it, and was the item deleted? Then make redrive ENV=dev PROJECT=warehouse-1."""


def test_a_story_is_told_in_order_with_what_is_open_and_what_to_do(operator: Operator) -> None:
    letter = {"ackId": "a", "message": {"messageId": "1", "attributes": {"svix-id": "msg_1"}}}
    operator.answer(
        ("logging read", json.dumps([PARTIAL, PUBLISHED, REFUSED]), 0),
        ("storage cat", json.dumps(RECEIPT), 0),
        ("subscriptions pull", json.dumps([letter]), 0),
    )

    assert operator.run("trace", EVENT="msg_1") == 1

    told = [line.strip() for line in operator.said.splitlines() if line.strip()]
    assert "\n".join(told) == TOLD
    assert "--freshness=30d" in operator.call("logging", "read")


def test_a_finished_story_looks_at_no_dead_letter(operator: Operator) -> None:
    done = RECEIPT | {"outcome": "done", "items": {"67c8": "stored"}}
    operator.answer(
        ("logging read", json.dumps([PUBLISHED]), 0), ("storage cat", json.dumps(done), 0)
    )

    assert operator.run("trace", EVENT="msg_1") == 0

    assert "Done: 1 item of 1 in storage." in operator.said
    assert not any("pull" in call for call in operator.calls)


def test_of_an_item_the_events_are_found_that_named_it(operator: Operator) -> None:
    attempt = log_entry("resolve", 9, outcome="done", item_ids=["67c8"], items=1.0)
    done = RECEIPT | {"outcome": "done", "items": {"67c8": "stored"}}
    operator.answer(
        ("logging read", json.dumps([attempt]), 0), ("storage cat", json.dumps(done), 0)
    )

    assert operator.run("trace", ITEM="67c8", LAST="2d") == 0

    asked = next(call for call in operator.calls if "logging" in call)
    assert '(jsonPayload.item_ids="67c8" OR jsonPayload.item_id="67c8")' in asked[3]
    assert "--freshness=2d" in asked
    assert "msg_1" in operator.said


def test_of_an_event_that_nobody_knows_the_ways_to_get_it_are_told(operator: Operator) -> None:
    operator.answer(("storage cat", "matched no objects", 1))

    assert operator.run("trace", EVENT="msg_lost") == 1

    assert "Nothing is known of it here" in operator.said
    assert "make backfill SINCE=... ENV=dev PROJECT=warehouse-1" in operator.said


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"EVENT": "msg_1", "ITEM": "67c8"},
        {"EVENT": 'x" OR "1"="1'},
        {"EVENT": "m", "LAST": "?"},
    ],
)
def test_trace_takes_no_nonsense(operator: Operator, settings: dict[str, str]) -> None:
    assert operator.run("trace", **settings) == 2

    assert operator.calls == []


def test_the_doctor_finds_nothing_where_nothing_is_wrong(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    api = endpoint((200, []))
    receive = endpoint((400, {}), (204, {}))
    operator.answer(*HEALTHY, webhook_url=receive.url)

    assert operator.run("doctor", DIMMY_API_URL=api.url.rstrip("/")) == 0, operator.said

    for line in ("answers, and takes the key", "is refused", "is accepted", "All is fine."):
        assert line in operator.said
    assert SIGNING_SECRET not in operator.said
    assert API_KEY not in operator.said
    assert "SIGNING" not in json.dumps(operator.calls)
    assert len(receive.requests) == 3  # unsigned, signed, and the one that goes all the way


def test_the_doctor_names_what_is_wrong_and_how_to_mend_it(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    api = endpoint((401, {"detail": "Invalid API key"}))
    receive = endpoint((400, {}), (401, {"message": "No signature matches"}))
    names = "ENV=dev PROJECT=warehouse-1"
    operator.answer(
        ("topics describe", "NOT_FOUND", 1),
        ("subscriptions describe", json.dumps({"pushConfig": {}}), 0),
        *HEALTHY,
        webhook_url=receive.url,
    )

    assert operator.run("doctor", DIMMY_API_URL=api.url.rstrip("/")) == 1

    said = " ".join(operator.said.split())
    assert f"rejects the key (401) make secrets {names}, then make deploy {names}" in said
    assert f"is not there make plan {names} shows what is missing" in said
    assert "pushes to nobody" in said
    assert "is refused with 401: No signature matches" in said
    assert "4 to mend." in said
    assert SIGNING_SECRET not in operator.said
    assert API_KEY not in operator.said


def test_before_the_first_deployment_the_doctor_says_what_comes_next(operator: Operator) -> None:
    operator.answer(("secrets versions list", "", 0), ("terraform output", "{}", 0))

    assert operator.run("doctor") == 1

    assert "is missing" in operator.said
    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.said


COMMANDS = (
    "bootstrap",
    "secrets",
    "deploy",
    "deploy --plan",
    "status",
    "logs",
    "trace",
    "doctor",
    "redrive",
    "destroy",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_which_installation_it_misses(operator: Operator, command: str) -> None:
    assert operator.run(command, ENV="", PROJECT="") == 2

    assert "ENV is missing: dev, prod, staging" in operator.said
    assert "PROJECT is missing" in operator.said
    assert operator.calls == []


def test_an_environment_that_there_is_not_and_a_project_that_is_none(operator: Operator) -> None:
    assert operator.run("deploy", ENV="../prod", PROJECT="My Project") == 2

    assert "ENV=../prod is none of dev, prod, staging" in operator.said
    assert "PROJECT=My Project is no project's id" in operator.said


@pytest.mark.parametrize("program", ["gcloud", "terraform"])
def test_a_program_that_is_not_installed_is_named(operator: Operator, program: str) -> None:
    (operator.programs / program).unlink()

    assert operator.run("deploy", PATH=str(operator.programs)) == 2

    assert f"{program} is not installed: https://" in operator.said


@pytest.mark.parametrize(
    "command",
    [
        "bootstrap",
        "secrets",
        "plan",
        "deploy",
        "status",
        "logs",
        "trace",
        "doctor",
        "backfill",
        "redrive",
        "destroy",
        "package",
    ],
)
def test_make_has_each_command_and_passes_on_what_it_is_told(command: str) -> None:
    """The recipe runs the module, and what stands on the command line reaches it."""
    module = "deploy --plan" if command == "plan" else command
    made = ["make", "--dry-run", command, "ENV=dev"]
    recipe = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = {"ENV": "dev", "PROJECT": "warehouse-1", "SINCE": "2026-11-01", "EVENT": "msg_1"}
    probe = ["make", "--eval=probe: ; @env", "probe", *(f"{k}={v}" for k, v in told.items())]
    exported = subprocess.run(probe, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert f"-m operate.{module}" in recipe.splitlines()[-1]
    assert {f"{name}={value}" for name, value in told.items()} <= set(exported.splitlines())


@pytest.mark.parametrize("command", ["redrive", "backfill", "status", "trace", "doctor"])
def test_make_takes_the_sandbox_where_no_environment_is_named(command: str) -> None:
    def recipe(*settings: str) -> str:
        made = ["make", "--dry-run", command, *settings]
        return subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert f"sandbox.{command}" in recipe()
    assert f"operate.{command}" in recipe("ENV=dev")


@pytest.mark.skipif(GCLOUD is None, reason="gcloud is not installed")
def test_gcloud_itself_understands_every_call(
    operator: Operator, endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """The stand-in takes anything; gcloud can tell, offline, whether it would."""
    missing = ("buckets describe", "ERROR: 404: not found", 1)
    operator.answer(missing, *letters("msg_1"), *receipts(msg_1="done"))
    monitoring = endpoint((200, {}))
    for command in ("bootstrap", "deploy", "status", "logs", "redrive"):
        operator.run(
            command,
            YES="1",
            PAUSE_SECONDS="0.1",
            CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url,
        )
    operator.run("secrets", given=f"DIMMY_API_KEY={API_KEY}\nSIGNING_SECRETS={new_secret()}\n")
    operator.run("backfill", YES="1", SINCE="2026-11-01", UNTIL="2026-11-02")
    calls = sorted({written_as_gcloud_reads_it(c) for c in operator.calls if c[0] == "gcloud"})
    commands = [{"command_string": call} for call in calls]
    (tmp_path / "calls.json").write_text(json.dumps(commands))

    assert GCLOUD
    linted = subprocess.run(
        [GCLOUD, "meta", "lint-gcloud-commands", f"--commands-file={tmp_path}/calls.json"],
        env=os.environ | {"CLOUDSDK_CONFIG": str(tmp_path / "config")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(calls) >= 14
    verdicts = json.loads(linted.stdout)
    assert len(verdicts) == len(calls)
    refused = {v["command_string"]: v["error_message"] for v in verdicts if not v["success"]}
    assert refused == {}


def functions_with(reconcile_url: str) -> dict[str, dict[str, str]]:
    functions: dict[str, dict[str, str]] = DEPLOYED["functions"]
    return functions | {"reconcile": {"name": "dimmy-dev-reconcile", "url": reconcile_url}}


def written_as_gcloud_reads_it(call: list[str]) -> str:
    # The linter loses an empty value, which gcloud itself takes.
    return shlex.join(["--push-endpoint=x" if p == "--push-endpoint=" else p for p in call[:-1]])


def deleting(address: str, policy: str) -> str:
    """A plan, as Terraform shows it, that replaces one resource."""
    change = {"actions": ["delete", "create"], "before": {"deletion_policy": policy}}
    return json.dumps({"resource_changes": [{"address": address, "change": change}]})


def series(value: int) -> dict[str, Any]:
    """What Cloud Monitoring answers: the newest point first, but that is not promised."""
    old = {"interval": {"endTime": "2026-11-01T08:00:00Z"}, "value": {"int64Value": "1"}}
    new = {"interval": {"endTime": "2026-11-01T08:01:00Z"}, "value": {"int64Value": str(value)}}
    return {"timeSeries": [{"points": [new, old]}]}


def letters(*event_ids: str) -> list[Answer]:
    """What gcloud pulls: these, and then nothing more for whoever has them already."""
    pulled = [
        {
            "ackId": f"ack-{event_id}",
            "message": {"messageId": f"id-{event_id}", "attributes": {"svix-id": event_id}},
        }
        for event_id in event_ids
    ]
    return [("subscriptions pull", json.dumps(pulled), 0)]


def receipts(**outcomes: str) -> list[Answer]:
    lines = [
        json.dumps(
            {
                "event_id": event_id,
                "outcome": outcome,
                "redriven": True,
                "items": {"a": "stored" if outcome == "done" else "404: Item not found"},
            }
        )
        for event_id, outcome in outcomes.items()
    ]
    return [("storage cat", "".join(lines), 0)]  # as gcloud does, without a line's end
