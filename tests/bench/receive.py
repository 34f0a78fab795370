"""receive: throughput and latency on one core."""

from collections.abc import Callable
from statistics import median

from bench.load import Load, Result
from bench.processes import REFERENCES, Bench, cpu_seconds, peak_megabytes, resident_megabytes, send
from bench.report import Section, Target
from sandbox.functions import Function

CONNECTIONS = (1, 32, 200)
BODIES = {"150 bytes": 150, "10 kB": 10_000, "350 kB": 350_000, "5 MB": 5_000_000}
OURS, UNPUBLISHED, LEAST = "ours", "ours, without publishing", "minimal receiver"
EMPTY, LIMIT, DOCUMENTED = "empty, sync", "empty, async: the limit", "as documented"


def measure(quick: bool, say: Callable[[str], None]) -> list[Section]:
    """Measure throughput, latency and CPU time beside the alternatives, large bodies, memory."""
    with Bench() as bench:
        servers = {
            LIMIT: bench.start("empty_async", REFERENCES / "empty_async.py"),
            EMPTY: bench.start("empty", REFERENCES / "empty.py"),
            DOCUMENTED: bench.start("documented", REFERENCES / "documented.py"),
            LEAST: bench.start("least", REFERENCES / "least.py"),
            UNPUBLISHED: bench.start("receive", REFERENCES / "unpublished.py"),
            OURS: bench.start("receive"),
        }
        null_url = bench.start_null_server()
        for server in servers.values():
            server.wait_until_up()
        say("the load generator against a server that does nothing")
        generator = _generator(bench, null_url, 0.2 if quick else 0.5)
        connections = _connections(bench, servers, generator, quick, say)
        bodies = _bodies(bench, servers, quick, say)
        memory = _memory(bench, servers[OURS], quick, say)
    return [connections, bodies, memory]


class _Turns:
    """The results of each server by round, and ratios between servers within a round."""

    def __init__(self) -> None:
        self.results: dict[str, list[Result]] = {}
        self.cpu_microseconds: dict[str, list[float]] = {}

    def take(self, name: str, server: Function, load: Load) -> None:
        before = cpu_seconds(server)
        result = send(load)
        if set(result.statuses) != {"204"}:
            raise RuntimeError(f"{name} answered {result.statuses}")
        self.results.setdefault(name, []).append(result)
        spent = (cpu_seconds(server) - before) / result.answered
        self.cpu_microseconds.setdefault(name, []).append(spent * 1e6)

    def middle(self, name: str, value: Callable[[Result], float]) -> float:
        return median(map(value, self.results[name]))

    def ratio(self, name: str, other: str, value: Callable[[Result], float]) -> float:
        pairs = zip(self.results[name], self.results[other], strict=True)
        return median(value(mine) / value(theirs) for mine, theirs in pairs)


def _per_second(result: Result) -> float:
    return result.per_second


def _p50(result: Result) -> float:
    return result.p50


def _generator(bench: Bench, null_url: str, seconds: float) -> dict[int, float]:
    """The limit of the generator itself: webhooks per second, by number of connections."""
    return {
        count: send(
            Load(
                null_url,
                bench.secret,
                seconds,
                connections=count,
                warm_up=0.1,
                at_most_per_second=300_000,
            )
        ).per_second
        for count in CONNECTIONS
    }


def _connections(
    bench: Bench,
    servers: dict[str, Function],
    generator: dict[int, float],
    quick: bool,
    say: Callable[[str], None],
) -> Section:
    columns = (
        "",
        "connections",
        "webhooks/s",
        "ratio to the limit",
        "p50 ms",
        "p99 ms",
        "CPU us each",
    )
    section = Section(
        "receive: webhooks of 5 items",
        f"The server has one core; the load generator and {bench.pubsub_name} use the other. The"
        " numbers are medians of several rounds, in which the servers alternate. The ratio to the"
        " limit is the median of the ratios of each round. The last rows show the limit of the load"
        " generator, against a server that does nothing.",
        columns,
    )
    seconds, rounds = (0.6, 1) if quick else (1.0, 4)
    turns: dict[int, _Turns] = {}
    for count in CONNECTIONS:
        turns[count] = _Turns()
        say(f"webhooks over {count} connections")
        names = (LIMIT, OURS) if quick and count == 200 else tuple(servers)
        for _ in range(rounds):
            for name in names:
                server = servers[name]
                load = Load(f"{server.url}webhook", bench.secret, seconds, connections=count)
                turns[count].take(name, server, load)
        for name in names:
            section.rows.append(
                (
                    name,
                    str(count),
                    turns[count].middle(name, _per_second),
                    turns[count].ratio(name, LIMIT, _per_second),
                    turns[count].middle(name, _p50) * 1000,
                    turns[count].middle(name, lambda result: result.p99) * 1000,
                    median(turns[count].cpu_microseconds[name]),
                )
            )
    for count, per_second in generator.items():
        limit = turns[count].middle(LIMIT, _per_second)
        section.rows.append(
            ("(the load generator)", str(count), per_second, per_second / limit, *["-"] * 3)
        )
    many, one = turns[32], turns[1]
    section.targets = [
        Target(
            "throughput relative to the documented design",
            many.ratio(OURS, DOCUMENTED, _per_second),
            8,
        ),
        Target(
            "p50 of one connection, relative to the documented design",
            one.ratio(OURS, DOCUMENTED, _p50),
            1 / 12,
            highest=True,
        ),
        Target(
            "throughput relative to the framework's empty sync function",
            many.ratio(OURS, EMPTY, _per_second),
            2.5,
        ),
        Target("throughput relative to the limit", many.ratio(OURS, LIMIT, _per_second), 0.70),
        Target(
            "throughput relative to the limit, without publishing",
            many.ratio(UNPUBLISHED, LIMIT, _per_second),
            0.80,
        ),
        Target(
            "p99 relative to p50 at 200 connections",
            turns[200].middle(OURS, lambda result: result.p99 / result.p50),
            3,
            highest=True,
        ),
    ]
    return section


def _bodies(
    bench: Bench, servers: dict[str, Function], quick: bool, say: Callable[[str], None]
) -> Section:
    section = Section(
        "receive: larger bodies",
        "8 connections. The limit is left out, because it reads no body. All receivers hold the"
        " complete body in memory.",
        ("", "body", "webhooks/s", "MB/s", "p50 ms", "CPU us each"),
    )
    seconds, rounds = (0.3, 1) if quick else (1.0, 3)
    for size, count in list(BODIES.items())[:: 2 if quick else 1]:
        say(f"bodies of {size}")
        turns = _Turns()
        for _ in range(rounds):
            for name in (LEAST, DOCUMENTED, OURS):
                load = Load(
                    f"{servers[name].url}webhook", bench.secret, seconds, 8, body_bytes=count
                )
                turns.take(name, servers[name], load)
        for name in turns.results:
            per_second = turns.middle(name, _per_second)
            section.rows.append(
                (
                    name,
                    size,
                    per_second,
                    per_second * count / 1e6,
                    turns.middle(name, _p50) * 1000,
                    median(turns.cpu_microseconds[name]),
                )
            )
    return section


def _memory(bench: Bench, used: Function, quick: bool, say: Callable[[str], None]) -> Section:
    say("memory")
    section = Section(
        "receive: memory",
        "Resident memory of the process that handles the requests.",
        ("", "MB"),
    )
    fresh = bench.start("receive")
    fresh.wait_until_up()
    section.rows.append(("after the start", resident_megabytes(fresh)))
    send(Load(f"{fresh.url}webhook", bench.secret, 2, 32, at_most_per_second=20_000))
    after_events = resident_megabytes(fresh)
    section.rows.append(("after 2 seconds at 32 connections", after_events))
    large = bench.start("receive")
    large.wait_until_up()
    for connections in (1,) if quick else (1, 4):
        send(Load(f"{large.url}webhook", bench.secret, 1, connections, body_bytes=31_000_000))
        section.rows.append(
            (f"peak, bodies of 31 MB, {connections} at a time", peak_megabytes(large))
        )
        if connections == 1:
            at_most = peak_megabytes(large)
    section.rows.append(("after all measurements above", resident_megabytes(used)))
    section.targets = [
        Target(
            "receive: memory after more than 10,000 events", after_events, 120, "MB", highest=True
        ),
        Target("receive: memory with a body of 31 MB", at_most, 320, "MB", highest=True),
    ]
    return section
