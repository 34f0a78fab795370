"""Settings of the servers that the framework starts: gunicorn and, within it, uvicorn.

The framework has no option for them, but it creates them only after it has imported `main.py`, from
defaults that can be changed until then.
"""

import os

import gunicorn.config

# A Google front end keeps an idle connection for 600 s. If the server closed one earlier, a request
# that is already on its way would be lost.
KEEP_ALIVE_SECONDS = 620


def keep_idle_connections() -> None:
    """Keep idle connections open until the front end closes them."""
    gunicorn.config.Keepalive.default = KEEP_ALIVE_SECONDS


def keep_idle_workers() -> None:
    """Never take a worker that had no CPU for one that hangs.

    Between requests, Cloud Run withdraws the CPU, so a worker cannot tell gunicorn that it is
    alive. After the function's timeout, which the framework takes for gunicorn's, the next request
    would bring back the CPU and lose its worker. Cloud Run ends requests that take too long.
    """
    os.environ["CLOUD_RUN_TIMEOUT_SECONDS"] = "0"


def ignore_forwarded_addresses() -> None:
    """Never replace the peer's address by one that a header claims.

    Only TRUSTED_PROXY_HOPS decides which entries of X-Forwarded-For count. By default the servers
    believe a caller on loopback.
    """
    gunicorn.config.ForwardedAllowIPS.default = ""
    os.environ["FORWARDED_ALLOW_IPS"] = ""  # uvicorn without gunicorn
