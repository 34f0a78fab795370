"""Runs gcloud, and plain requests, on the local Google Cloud."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from sandbox.google_cloud.environment import google_environment
from sandbox.google_cloud.server import GoogleCloud

APIS = (
    "artifactregistry",
    "billingbudgets",
    "cloudfunctions",
    "cloudkms",
    "cloudresourcemanager",
    "cloudscheduler",
    "compute",
    "iam",
    "pubsub",
    "run",
    "secretmanager",
)


@dataclass
class Printed:
    """What a program printed, and its exit status."""

    status: int
    out: str
    errors: str


class Client:
    """gcloud and REST requests for a local Google Cloud."""

    def __init__(self, cloud: GoogleCloud, folder: Path) -> None:
        self.cloud = cloud
        self.environment: Mapping[str, str] = os.environ | google_environment(cloud.url, folder)

    def gcloud(self, *arguments: str, stdin: str = "") -> Printed:
        """Run a command of gcloud in the project."""
        project = f"--project={self.cloud.project.id}"
        return self.run("gcloud", *arguments, project, "--quiet", stdin=stdin)

    def run(self, *command: str, stdin: str = "") -> Printed:
        """Run a program that finds the local Google Cloud in its environment."""
        done = subprocess.run(
            command,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Printed(done.returncode, done.stdout, done.stderr)

    def rest(self, method: str, path: str, body: Any = None, **query: str) -> requests.Response:
        """A request such as `PUT pubsub/v1/topics/t`; `@` in a path is the project's name."""
        return requests.request(
            method,
            f"{self.cloud.url}/{path.replace('@', self.cloud.project.name)}",
            json=body,
            params=query,
            headers={"Authorization": "Bearer a-local-token"},
            timeout=10,
        )

    def create(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The answer to a request that must succeed."""
        response = self.rest(method, path, body or {}, **query)
        assert response.status_code == 200, response.text
        return response.json()
