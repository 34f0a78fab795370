"""Times as people read them: in their own time zone, with its name. TZ=UTC asks for UTC."""

from datetime import datetime


def shown(time: datetime) -> str:
    """Such as `2026-11-01 09:00:06 CET`."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def shown_exactly(time: datetime) -> str:
    """The same with milliseconds."""
    local = time.astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03} {local:%Z}"


def shown_text(text: str) -> str:
    """A time that is given as text in RFC 3339; another text as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return shown(time) if time.tzinfo else text
