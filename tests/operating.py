"""An operator of an installation: stand-ins for gcloud and terraform that write down their calls,
and what Google would answer.
"""

import http.server
import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from operate.cloud import ROOT
from sandbox.secrecy import refuse_secrets

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
