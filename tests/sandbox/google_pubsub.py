"""Google's Pub/Sub emulator from the gcloud SDK, a Java program that stores messages in memory."""

import os
import shutil
from pathlib import Path

import grpc

from sandbox.processes import Process, free_port

NOT_INSTALLED = (
    "PUBSUB=google needs Google's Pub/Sub emulator, which is not installed: install it with"
    " `gcloud components install pubsub-emulator` (and Java), or leave PUBSUB out to use our own."
)


class MissingEmulatorError(Exception):
    """The gcloud SDK, its emulator or Java is not installed."""

    def __init__(self) -> None:
        super().__init__(NOT_INSTALLED)


def find_emulator() -> Path | None:
    """The emulator's start script; None if the emulator or Java is not installed."""
    gcloud = shutil.which("gcloud")
    if not (gcloud and shutil.which("java")):
        return None
    for root in (Path(gcloud).resolve().parents[1], Path("/usr/lib/google-cloud-sdk")):
        script = root / "platform/pubsub-emulator/bin/cloud-pubsub-emulator"
        if script.exists():
            return script
    return None


def start_emulator() -> tuple[Process, str]:
    """Start the emulator; return its process and its HOST:PORT.

    Raises:
        MissingEmulatorError: it is not installed.
        StartError: it did not start.
    """
    script = find_emulator()
    if script is None:
        raise MissingEmulatorError
    host = f"127.0.0.1:{free_port()}"
    address, port = host.split(":")
    process = Process(
        [str(script), f"--host={address}", f"--port={port}"],
        os.environ | {"JAVA_OPTS": "-Xmx768m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"},
    )
    process.wait_until(lambda: _answers(host) and process.listens_on(int(port)))
    return process, host


def _answers(host: str) -> bool:
    with grpc.insecure_channel(host) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=0.5)
        except grpc.FutureTimeoutError:
            return False
    return True
