"""This software's receiver without the publishing, to measure the rest."""

import main
from pipeline.receive import receiver as receiver_module
from pipeline.receive.verification import VerifiedEvent


class _Unpublished:
    async def publish(self, _: VerifiedEvent, stored_payload: str | None = None) -> None:
        pass


async def _open(*_: object) -> _Unpublished:
    return _Unpublished()


receiver_module.open_publisher = _open  # type: ignore[assignment,attr-defined]
receive = main.receive
