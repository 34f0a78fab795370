"""Whether the server has been asked to stop."""

import signal


def is_shutting_down() -> bool:
    """Whether the server has received SIGTERM; Cloud Run kills it 10 s later.

    gunicorn handles the signal in its worker and offers no other way to learn of it than to ask
    the worker, whose method is the registered handler. Under any other server this is False.
    """
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(worker, "alive", True) is False
