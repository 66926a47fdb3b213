"""Customer: a thread that orders without end and watches each of its jobs until it is final.

Knows the wire and the notebook; of faults it notices only that answers do not come.
"""

from __future__ import annotations

import threading
import time
import traceback
from random import Random

from .notebook import Notebook
from .orders import CLIENTS, PlannedBatch, batches, orders
from .receipt import Receipt
from .wire import Wire

LIVE = (4, 9)
"""A customer with fewer live jobs than the first number orders until it has the second."""
REPLAYS = 0.15
"""Share of the orders with a key that are sent twice although they were answered."""
BATCHES = 0.15
"""Share of the orders that are a batch."""
NOBODY_ANSWERS_S = 0.2


class Customer(threading.Thread):
    def __init__(self, name: str, seed: int, port: int, notebook: Notebook) -> None:
        super().__init__(name=f"customer {name}", daemon=True)
        self._client, self._notebook = name, notebook
        self._orders, self._rng = orders(seed, name, [name]), Random(f"{seed} {name} replays")
        self._batches, self._unsettled = batches(seed, name), dict[PlannedBatch, list[Receipt]]()
        self._port = port
        self._orders_no_more, self._leaving = threading.Event(), threading.Event()

    def stop_ordering(self) -> None:
        """Order nothing more; the thread ends when all its jobs have ended."""
        self._orders_no_more.set()

    def leave(self) -> None:
        """The thread ends at once."""
        self._orders_no_more.set()
        self._leaving.set()

    def run(self) -> None:
        wire = Wire(self._port, self._notebook)
        try:
            while not self._leaving.is_set() and not self._all_ended():
                self._turn(wire)
        except Exception:
            self._notebook.broken(f"campaign: {self.name} died: {traceback.format_exc()}")
        finally:
            wire.close()

    def _all_ended(self) -> bool:
        waits = self._notebook.live(self._client) or self._notebook.unsettled(self._client)
        return self._orders_no_more.is_set() and not waits and not self._unsettled

    def _turn(self, wire: Wire) -> None:
        """Send again what got no answer, order more, look at every job. The wait for the oldest job sets
        the pace."""
        answered = all(wire.send(receipt) for receipt in self._notebook.unsettled(self._client))
        answered = all(self._send(wire, batch) for batch in [*self._unsettled]) and answered
        if not self._orders_no_more.is_set() and len(self._notebook.live(self._client)) < LIVE[0]:
            answered = answered and self._fill(wire)
        live = self._notebook.live(self._client)
        for receipt in live[1:]:
            answered = answered and wire.poll(receipt)
        if live:
            answered = answered and wire.poll(live[0], wait_s=1)
        if not answered:
            self._leaving.wait(NOBODY_ANSWERS_S)

    def _fill(self, wire: Wire) -> bool:
        while len(self._notebook.live(self._client)) < LIVE[1]:
            if self._rng.random() < BATCHES:
                batch = next(self._batches)
                self._unsettled[batch] = [
                    self._notebook.add(Receipt(order)) for order in batch.rows
                ]
                if not self._send(wire, batch):
                    return False
                continue
            receipt = wire.order(next(self._orders))
            if receipt.job_id is None:
                return False
            if receipt.key is not None and self._rng.random() < REPLAYS:
                wire.send_again(receipt)
        return True

    def _send(self, wire: Wire, batch: PlannedBatch) -> bool:
        answered = wire.order_batch(batch, self._unsettled[batch])
        if answered:
            del self._unsettled[batch]
        return answered


class Crowd:
    """All customers together."""

    def __init__(self, seed: int, port: int, notebook: Notebook) -> None:
        self._customers = [Customer(name, seed, port, notebook) for name in CLIENTS]

    def start(self) -> None:
        for customer in self._customers:
            customer.start()

    def finish(self, timeout_s: float) -> bool:
        """No more orders; wait until all that was ordered has ended. True: it has."""
        give_up = time.monotonic() + timeout_s
        for customer in self._customers:
            customer.stop_ordering()
        for customer in self._customers:
            customer.join(max(0.0, give_up - time.monotonic()))
        return self.leave()

    def leave(self) -> bool:
        """End every customer at once. True: none was waiting for a job any more."""
        waiting = [c for c in self._customers if c.is_alive()]
        for customer in waiting:
            customer.leave()
        for customer in waiting:
            customer.join()
        return not waiting
