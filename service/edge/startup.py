"""How a failed start is reported, and what a successful one tunes."""

import gc
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.bundle import BundleError
from service.settings import SettingsError

GARBAGE: Final = 50_000  # objects made before Python's collector looks for cycles


class OneLineAtStart:
    """Reports a bundle or a setting that stops the service in one line. Starlette reports the whole traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Everything but the report of a failed start passes unchanged."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def short(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                kind, _, text = message["message"].strip().splitlines()[-1].partition(": ")
                if kind.endswith((BundleError.__name__, SettingsError.__name__)):
                    message["message"] = text
            await send(message)

        await self.app(scope, receive, short)


def collect_rarely() -> None:
    """Lets Python's collector ignore what was made so far, and look less often.

    A request makes no cycles. Looking for some every 700 objects, Python's default, costs 2 % of the throughput.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
