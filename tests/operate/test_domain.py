"""The domain of the load balancer: `make doctor` and `make deploy`.

One of them: .venv/bin/pytest tests/operate/test_domain.py -k certificate
"""

from aiohttp import web

_ADDRESS, _IPV6_ADDRESS = "203.0.113.7", "2001:db8::7"


class Dns:
    """A resolver with these records, by domain and type."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {("hooks.example.com", "A"): [_ADDRESS]}

    async def answer(self, request: web.Request) -> web.Response:
        name, record = request.query["name"], request.query["type"]
        number = {"A": 1, "AAAA": 28, "CAA": 257}[record]
        alias = {"name": name, "type": 5, "data": "an.alias.example.com."}
        found = [
            {"name": name, "type": number, "data": data}
            for data in self.records.get((name, record), [])
        ]
        return web.json_response({"Status": 0, "Answer": [alias, *found]})
