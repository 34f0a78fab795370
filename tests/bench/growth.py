"""Growth: the cost of an event and of an item as quantities grow by powers of ten."""

from collections.abc import Callable

from bench.load import Load
from bench.processes import Bench, cpu_seconds, resident_megabytes, send
from bench.report import Section, Target
from bench.resolve import deliver
from sandbox.functions import Function

# A cost counts as flat if, at the largest quantity, it is below this multiple of the lowest cost.
_FLAT = 1.5


def measure(quick: bool, say: Callable[[str], None]) -> list[Section]:
    """Increase events, items of an event, stored objects and sizes of bodies."""
    section = Section(
        "Growth by powers of ten",
        "CPU time with an API without latency. Flat: at the largest quantity, one unit costs less"
        f" than {_FLAT:g} x the lowest cost.",
        ("", "count", "CPU us each", "MB"),
    )
    with Bench() as bench:
        bench.start_api(0.0)
        receive, resolve = bench.start("receive"), bench.start("resolve", THREADS="8")
        receive.wait_until_up()
        resolve.wait_until_up()
        deliver(resolve, 1)
        send(Load(f"{receive.url}webhook", bench.secret, 0.1, 8))
        _events_of_receive(section, bench, receive, quick, say)
        _sizes(section, bench, receive, quick, say)
        _events_of_resolve(section, resolve, quick, say)
        _ids(section, resolve, quick, say)
        _objects(section, bench, resolve, quick, say)
    return [section]


def _events_of_receive(
    section: Section, bench: Bench, receive: Function, quick: bool, say: Callable[[str], None]
) -> None:
    costs = []
    for count in (100, 1000) if quick else (100, 1000, 10_000, 100_000):
        say(f"receive: {count} events")
        before = cpu_seconds(receive)
        rate = 2000
        send(Load(f"{receive.url}webhook", bench.secret, count / rate, rate=rate))
        costs.append((cpu_seconds(receive) - before) / count)
        _add(section, "receive: an event, by number of events", count, costs[-1], receive)
    _judge(section, "receive: an event", costs)


def _sizes(
    section: Section, bench: Bench, receive: Function, quick: bool, say: Callable[[str], None]
) -> None:
    costs = []
    for size in (1000, 10_000, 100_000, 1_000_000, 10_000_000)[: 3 if quick else 5]:
        say(f"receive: bodies of {size} bytes")
        before = cpu_seconds(receive)
        load = Load(f"{receive.url}webhook", bench.secret, 0.5, 1, body_bytes=size)
        answered = send(load).answered
        cost = (cpu_seconds(receive) - before) / answered
        costs.append(cost / (size / 1000))
        _add(section, "receive: a body, by its bytes", size, cost, receive)
    _judge(section, "receive: a kilobyte of body", costs)


def _events_of_resolve(
    section: Section, resolve: Function, quick: bool, say: Callable[[str], None]
) -> None:
    costs = []
    for count in (10, 100) if quick else (10, 100, 1000, 10_000):
        say(f"resolve: {count} events")
        before = cpu_seconds(resolve)
        for _ in range(count):
            deliver(resolve, 1)
        costs.append((cpu_seconds(resolve) - before) / count)
        _add(
            section, "resolve: an event of one item, by number of events", count, costs[-1], resolve
        )
        label = f"resolve: memory after {count:,} events"
        section.targets = [Target(label, resident_megabytes(resolve), 110, "MB", highest=True)]
    _judge(section, "resolve: an event", costs[1:])


def _ids(section: Section, resolve: Function, quick: bool, say: Callable[[str], None]) -> None:
    costs = []
    for count in (1, 10, 100) if quick else (1, 10, 100, 1000, 10_000):
        say(f"resolve: an event of {count} items")
        rounds = max(1, 200 // count)
        before = cpu_seconds(resolve)
        for _ in range(rounds):
            deliver(resolve, count)
        costs.append((cpu_seconds(resolve) - before) / rounds / count)
        _add(section, "resolve: an item, by items of the event", count, costs[-1], resolve)
    _judge(section, "resolve: an item of a large event", costs)


def _objects(
    section: Section, bench: Bench, resolve: Function, quick: bool, say: Callable[[str], None]
) -> None:
    folder = bench.folder / "stored" / "items"
    costs = []
    existing = 0
    for count in (1000, 10_000) if quick else (1000, 10_000, 100_000, 1_000_000):
        say(f"resolve: {count} objects in the folder")
        for number in range(existing, count):
            (folder / f"{number:024d}.json").touch()
        existing = count
        before = cpu_seconds(resolve)
        for _ in range(20):
            deliver(resolve, 50)
        costs.append((cpu_seconds(resolve) - before) / 1000)
        _add(section, "resolve: an item, by stored objects", count, costs[-1], resolve)
    _judge(section, "resolve: an item, by stored objects", costs)


def _add(section: Section, name: str, count: int, cost: float, function: Function) -> None:
    section.rows.append((name, f"{count:,}", cost * 1e6, resident_megabytes(function)))


def _judge(section: Section, name: str, costs: list[float]) -> None:
    growth = costs[-1] / min(costs)
    verdict = "flat" if growth < _FLAT else f"grows {growth:.1f} x"
    section.rows.append((f"{name}: {verdict}", "", float("nan"), float("nan")))
