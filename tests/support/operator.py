"""Runs operator commands in tests, with gcloud and terraform replaced by recording programs."""

import http.server
import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from operate.google.deployment import ROOT
from sandbox.secret_search import assert_no_secrets

INVOKERS = {
    "receive": "allUsers",
    "resolve": "serviceAccount:dimmy-dev-pusher@warehouse-1.iam.gserviceaccount.com",
    "reconcile": "serviceAccount:dimmy-dev-scheduler@warehouse-1.iam.gserviceaccount.com",
}
DEPLOYED: dict[str, Any] = {
    "bucket": "warehouse-1-dimmy-dev-data",
    "dead_letter_subscription": "projects/warehouse-1/subscriptions/dimmy-dev-dead-letters",
    "functions": {
        name: {
            "name": f"dimmy-dev-{name}",
            "url": f"https://{name}.a.run.app",
            "invoker": invoker,
        }
        for name, invoker in INVOKERS.items()
    },
    "load_balancer_address": None,
    "pusher": "dimmy-dev-pusher@warehouse-1.iam.gserviceaccount.com",
    "receive_url_open": False,
    "reconcile_ingress": "ALLOW_ALL",
    "region": "europe-west1",
    "scheduler_jobs": {
        "hourly": "projects/warehouse-1/locations/europe-west1/jobs/dimmy-dev-reconcile-hourly"
    },
    "scheduler_region": "europe-west1",
    "subscription": "projects/warehouse-1/subscriptions/dimmy-dev-resolve",
    "topic": "projects/warehouse-1/topics/dimmy-dev-events",
    "webhook_url": "https://receive.a.run.app",
}

POLICY = {"bindings": [{"role": "roles/run.invoker", "members": list(INVOKERS.values())}]}

# The words of a call, what is printed, the exit status, and how often, if not always.
Answer = tuple[str, str, int] | tuple[str, str, int, int]
_SECONDS = 600  # for a command that hangs
_FOR_TOKEN = "config-helper"

SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
API_KEY = "an-example-api-key"
HEALTHY: list[Answer] = [
    ("versions access --secret=dimmy-dev-signing-secrets", SIGNING_SECRET, 0),
    ("versions access", API_KEY, 0),
]
SUBSCRIPTION = {
    "topic": DEPLOYED["topic"],
    "pushConfig": {"pushEndpoint": "https://resolve.a.run.app"},
}


class Operator:
    """Runs commands in a copy of the sources, with recording programs for gcloud and terraform.

    `replaced` names the programs that are replaced, `environ` what the others need.
    """

    def __init__(
        self,
        folder: Path,
        replaced: Sequence[str] = ("gcloud", "terraform"),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._environ = environ or {}
        self.tree = folder / "tree"
        self.variables = self.tree / "infra" / "envs" / "dev.tfvars"
        for name in ("function", "infra"):
            shutil.copytree(ROOT / name, self.tree / name)
        shutil.copyfile(ROOT / "requirements.txt", self.tree / "requirements.txt")
        self.programs = folder / "bin"
        self.programs.mkdir()
        source = Path(__file__).with_name("recording_program.py").read_text()
        for name in replaced:
            program = self.programs / name
            # Without site packages, so that coverage does not start in each of its many calls.
            program.write_text(f"#!{sys.executable} -IS\n{source}")
            program.chmod(0o755)
        self.printed = ""
        self._started: list[subprocess.Popen[bytes]] = []
        self.set_answers()

    def set_answers(self, *answers: Answer, **outputs: Any) -> None:
        """Set answers of the programs that precede the default ones, and outputs of Terraform."""
        deployed = {name: {"value": value} for name, value in (DEPLOYED | outputs).items()}
        defaults: list[Answer] = [
            ("terraform output", json.dumps(deployed), 0),
            ("terraform show", json.dumps({"resource_changes": []}), 0),
            ("secrets versions list", "3", 0),
            ("secrets versions add", "4", 0),
            (_FOR_TOKEN, "an-access-token", 0),
            ("print-identity-token", "an-identity-token", 0),
            ("subscriptions describe", json.dumps(SUBSCRIPTION), 0),
            ("services get-iam-policy", json.dumps(POLICY), 0),
            ("functions describe", '{"state": "ACTIVE", "labels": {"version": "0123"}}', 0),
            ("jobs describe", '{"lastAttemptTime": "2026-11-01T08:17:00Z", "status": {}}', 0),
        ]
        (self.folder / "answers.json").write_text(json.dumps([*answers, *defaults]))

    def add_variables(self, text: str) -> None:
        """Add lines to the file of the environment's variables."""
        self.variables.write_text(f"{self.variables.read_text()}\n{text}\n")

    @property
    def tokens(self) -> set[str]:
        """The access tokens that Terraform was given."""
        return set((self.folder / "tokens").read_text().split())

    def run(self, command: str, *, stdin: str = "", **settings: str) -> int:
        """Run a command without a terminal; return its exit status."""
        done = subprocess.run(
            self._command(command),
            env=self.environment(settings),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self.printed = done.stdout + done.stderr
        assert_no_secrets(command, [self.printed], [API_KEY])
        return done.returncode

    def type(self, command: str, *typed: str, **settings: str) -> int:
        """Run a command on a terminal and type these lines; return its exit status."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(sys.executable, self._command(command), self.environment(settings))
        printed = b""
        lines = list(typed)
        while True:
            try:
                printed += os.read(terminal, 4096)
            except OSError:  # how Linux reports the end of a terminal
                break
            if lines and printed.rstrip(b" ").endswith(b":"):
                os.write(terminal, lines.pop(0).encode() + b"\n")
        os.close(terminal)
        self.printed = printed.decode()
        assert_no_secrets(command, [self.printed], [API_KEY])
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def start(self, command: str, **settings: str) -> "subprocess.Popen[bytes]":
        """Start a command without a terminal; it is killed at the end of the test."""
        self._started.append(
            subprocess.Popen(
                self._command(command),
                env=self.environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        )
        return self._started[-1]

    def stop(self) -> None:
        """Kill the started commands."""
        for process in self._started:
            process.kill()
            process.wait()

    @property
    def calls(self) -> list[list[str]]:
        """Program, arguments and standard input of each call so far, but those for a token."""
        return [call for call in self.all_calls if _FOR_TOKEN not in call]

    @property
    def all_calls(self) -> list[list[str]]:
        """The same with those for a token."""
        written = self.folder / "calls.jsonl"
        return (
            [json.loads(line) for line in written.read_text().splitlines()]
            if written.exists()
            else []
        )

    @property
    def steps(self) -> list[str]:
        """The calls without their options and standard input."""
        plain = [[part for part in call[:-1] if not part.startswith("-")] for call in self.calls]
        return [" ".join(call) for call in plain]

    @property
    def verbs(self) -> list[str]:
        """The first argument of each call: `plan`, `secrets`, ..."""
        return [step.split()[1] for step in self.steps]

    def call(self, *words: str) -> list[str]:
        """The call with these words; there must be exactly one."""
        (found,) = [call for call in self.calls if set(words) <= set(call)]
        return found

    def _command(self, command: str) -> list[str]:
        return [sys.executable, "-m", "operate", command]

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        """The environment in which a command finds the recording programs."""
        inherited = {k: v for k, v in os.environ.items() if k.startswith(("COVERAGE", "HOME"))}
        return inherited | {
            "PATH": os.pathsep.join((str(self.programs), os.environ["PATH"])),
            "PYTHONPATH": f"{self.tree}/function:{self.tree}/infra",
            "RECORDING": str(self.folder),
            "ENV": "dev",
            "PROJECT": "warehouse-1",
            "TERM": "dumb",
            "TZ": "UTC",
            **self._environ,
            **settings,
        }


class Endpoint:
    """A server on loopback that returns these answers in order, and then repeats the last."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.requests: list[tuple[str, str | None]] = []
        self.bodies: list[bytes] = []
        remaining = list(answers)
        requests, bodies = self.requests, self.bodies

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                requests.append((self.path, self.headers.get("Authorization")))
                bodies.append(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
                status, body = remaining.pop(0) if len(remaining) > 1 else remaining[0]
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


def functions_with(reconcile_url: str) -> dict[str, dict[str, str]]:
    """The Terraform output `functions` with another URL of reconcile."""
    functions: dict[str, dict[str, str]] = DEPLOYED["functions"]
    return functions | {"reconcile": {"name": "dimmy-dev-reconcile", "url": reconcile_url}}


def as_command_string(call: list[str]) -> str:
    """A call in the format of gcloud's linter."""
    # gcloud accepts an empty value, but its linter drops it.
    return shlex.join(["--push-endpoint=x" if p == "--push-endpoint=" else p for p in call[:-1]])


def replacement_plan(address: str, policy: str, **before: str) -> str:
    """The output of `terraform show` for a plan that replaces one resource."""
    before = {"deletion_policy": policy, "name": "a", **before}
    change = {"actions": ["delete", "create"], "before": before}
    return json.dumps({"resource_changes": [{"address": address, "change": change}]})


def creation_plan(resource_type: str, count: int = 1, **after: str) -> str:
    """The output of `terraform show` for a plan that creates resources."""
    change = {"actions": ["create"], "before": None, "after": after}
    created = {"address": f"{resource_type}.this", "type": resource_type, "change": change}
    return json.dumps({"resource_changes": [created] * count})


def time_series(value: int) -> dict[str, Any]:
    """A time series of Cloud Monitoring, whose points have no documented order."""
    old = {"interval": {"endTime": "2026-11-01T08:00:00Z"}, "value": {"int64Value": "1"}}
    new = {"interval": {"endTime": "2026-11-01T08:01:00Z"}, "value": {"int64Value": str(value)}}
    return {"timeSeries": [{"points": [new, old]}]}


def dead_letters(*event_ids: str) -> list[Answer]:
    """The messages of these events, as printed by `gcloud pubsub subscriptions pull`."""
    pulled = [
        {
            "ackId": f"ack-{event_id}",
            "message": {"messageId": f"id-{event_id}", "attributes": {"svix-id": event_id}},
        }
        for event_id in event_ids
    ]
    return [("subscriptions pull", json.dumps(pulled), 0)]


def receipts(**outcomes: str) -> list[Answer]:
    """The receipts of these events, as printed by `gcloud storage cat`."""
    lines = [
        json.dumps(
            {
                "event_id": event_id,
                "kind": "items.scanned",
                "received_at": "2026-11-01T08:00:00.000000Z",
                "attempts": 3,
                "outcome": outcome,
                "redriven": True,
                "items": {"a": "stored" if outcome == "done" else "404: Item not found"},
            }
        )
        for event_id, outcome in outcomes.items()
    ]
    return [("storage cat", "".join(lines), 0)]  # without newlines between them


def log_entry(function: str, second: int, **fields: Any) -> dict[str, Any]:
    """A log entry as Cloud Logging returns it, with all numbers as floats."""
    return {
        "timestamp": f"2026-11-01T08:00:{second:02}.123456789Z",
        "severity": "INFO",
        "resource": {"labels": {"service_name": f"dimmy-dev-{function}"}},
        "jsonPayload": {"event_id": "msg_1", **fields},
    }


REFUSED = log_entry(
    "receive", 1, outcome="unavailable", status=503.0, reason="storage: unreachable"
)


PUBLISHED = log_entry(
    "receive", 6, outcome="published", status=204.0, bytes=1490.0, source="52.215.16.239"
)


PARTIAL = log_entry(
    "resolve", 8, outcome="partial", attempt=1.0, items=2.0, failed=1.0, reason="67c9: 404"
)


RECEIPT: dict[str, Any] = {
    "event_id": "msg_1",
    "kind": "items.scanned",
    "received_at": "2026-11-01T08:00:06Z",
    "attempts": 1,
    "outcome": "partial",
    "items": {"67c8": "stored", "67c9": "404: Item not found"},
}
FINISHED_RECEIPT = RECEIPT | {"outcome": "done", "items": {"67c8": "stored"}}
