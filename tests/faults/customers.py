"""Customer: a thread that orders without end and watches each of its jobs until it is final.

Knows the wire and the ledger; of faults it notices only that answers stay away.
"""

from __future__ import annotations

import threading
import time
import traceback
from random import Random

from .ledger import Ledger
from .orders import CLIENTS, orders
from .wire import Wire

LIVE = (4, 9)
"""A customer's live jobs: it orders when it has fewer than the first, up to the second."""
REPLAYS = 0.15
"""Share of the orders with a key that are sent twice although they were answered."""
NOBODY_ANSWERS_S = 0.2


class Customer(threading.Thread):
    def __init__(self, name: str, seed: int, port: int, ledger: Ledger) -> None:
        super().__init__(name=f"customer {name}", daemon=True)
        self._client, self._ledger = name, ledger
        self._orders, self._rng = orders(seed, name, [name]), Random(f"{seed} {name} replays")
        self._port = port
        self._closing, self._leaving = threading.Event(), threading.Event()

    def close_order(self) -> None:
        """Order nothing more; end when everything ordered is final."""
        self._closing.set()

    def leave(self) -> None:
        """End at once."""
        self._closing.set()
        self._leaving.set()

    def run(self) -> None:
        wire = Wire(self._port, self._ledger)
        try:
            while not self._leaving.is_set() and not self._served():
                self._turn(wire)
        except Exception:
            self._ledger.broken(f"campaign: {self.name} died: {traceback.format_exc()}")
        finally:
            wire.close()

    def _served(self) -> bool:
        waits = self._ledger.live(self._client) or self._ledger.unsettled(self._client)
        return self._closing.is_set() and not waits

    def _turn(self, wire: Wire) -> None:
        """Clear up, order, look at everything; the wait for the oldest job sets the pace."""
        answered = all(wire.send(entry) for entry in self._ledger.unsettled(self._client))
        if not self._closing.is_set() and len(self._ledger.live(self._client)) < LIVE[0]:
            answered = answered and self._fill(wire)
        live = self._ledger.live(self._client)
        for entry in live[1:]:
            answered = answered and wire.poll(entry)
        if live:
            answered = answered and wire.poll(live[0], wait_s=1)
        if not answered:
            self._leaving.wait(NOBODY_ANSWERS_S)

    def _fill(self, wire: Wire) -> bool:
        while len(self._ledger.live(self._client)) < LIVE[1]:
            entry = wire.order(next(self._orders))
            if entry.job_id is None:
                return False
            if entry.key is not None and self._rng.random() < REPLAYS:
                wire.send_again(entry)
        return True


class Crowd:
    """All customers together."""

    def __init__(self, seed: int, port: int, ledger: Ledger) -> None:
        self._customers = [Customer(name, seed, port, ledger) for name in CLIENTS]

    def start(self) -> None:
        for customer in self._customers:
            customer.start()

    def serve_out(self, timeout_s: float) -> bool:
        """No more orders, and wait for what was ordered. True: everybody was served."""
        give_up = time.monotonic() + timeout_s
        for customer in self._customers:
            customer.close_order()
        for customer in self._customers:
            customer.join(max(0.0, give_up - time.monotonic()))
        return self.leave()

    def leave(self) -> bool:
        """Send everybody home. True: nobody was waiting any more."""
        waiting = [c for c in self._customers if c.is_alive()]
        for customer in waiting:
            customer.leave()
        for customer in waiting:
            customer.join()
        return not waiting
