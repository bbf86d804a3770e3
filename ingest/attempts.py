"""The budget of connection attempts."""

import asyncio


class Attempts:
    """How fast the house may connect: 300 attempts in 5 minutes are allowed for an address; half of it is used.

    Source: reference/binance-protocol.md section 1.6.
    """

    BURST = 20
    EVERY_S = 2.0

    def __init__(self) -> None:
        self._next_s = 0.0

    async def turn(self) -> None:
        """Waits until one more attempt is within the budget."""
        now_s = asyncio.get_running_loop().time()
        self._next_s = max(self._next_s, now_s - self.BURST * self.EVERY_S) + self.EVERY_S
        await asyncio.sleep(max(0.0, self._next_s - now_s))
