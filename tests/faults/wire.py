"""Wire: every HTTP call of the campaign. What comes back, or that nothing does, goes into the notebook.

Knows the contract of the routes; nothing of processes, of faults, or of how calls are paced.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx

from serve_app.messages import TERMINAL

from .notebook import Notebook
from .orders import PlannedBatch, PlannedOrder
from .receipt import Answer, Job, Receipt

TIMEOUT_S = 30.0
NOT_NOW = (429, 503)


class Wire:
    """One client's connections. Not shared by threads."""

    def __init__(self, port: int, notebook: Notebook) -> None:
        self._port, self._notebook = port, notebook
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}")

    def close(self) -> None:
        self._http.close()

    # ---- orders and retries ----

    def order(self, order: PlannedOrder, timeout_s: float = TIMEOUT_S) -> Receipt:
        receipt = self._notebook.add(Receipt(order, key=order.key))
        self.send(receipt, timeout_s)
        return receipt

    def retry(self, of: Receipt, key: str | None) -> Receipt:
        receipt = self._notebook.add(Receipt(of.order, retry_of=of.job_id, key=key))
        self.send(receipt)
        return receipt

    def send(self, receipt: Receipt, timeout_s: float = TIMEOUT_S) -> bool:
        """Send it, perhaps again. True: it is accepted."""
        asked_at = time.monotonic()
        if receipt.retry_of is None:
            path, body = self._asked(receipt.order)
            headers = receipt.order.headers()
            reply = self.ask("POST", path, json=body, headers=headers, timeout=timeout_s)
        else:
            headers = {} if receipt.key is None else {"Idempotency-Key": receipt.key}
            path = f"/v1/jobs/{receipt.retry_of}/retry"
            reply = self.ask("POST", path, headers=headers, timeout=timeout_s)
        if reply is None:
            receipt.unanswered += 1
        elif reply.status_code == 202:
            self._notebook.accepted(receipt, reply.json())
            self._notebook.saw(receipt, reply.json(), asked_at)
        else:
            self._notebook.refused(receipt)
            if reply.status_code not in NOT_NOW:
                self._notebook.broken(f"refused: {receipt.name}: {reply.status_code} {reply.text}")
        return receipt.answer is Answer.ACCEPTED

    def order_batch(self, batch: PlannedBatch, receipts: list[Receipt]) -> bool:
        """Send it, perhaps again. True: it is accepted, and the receipts of its rows have their jobs."""
        reply = self.ask("POST", "/v1/batches", json=batch.body(), headers=batch.headers())
        if reply is None or reply.status_code in NOT_NOW:
            return False
        if reply.status_code != 202:
            self._notebook.broken(f"refused: {batch.name}: {reply.status_code} {reply.text}")
            return True
        rows = self.ask("GET", reply.json()["urls"]["rows"], headers=batch.headers())
        if rows is None or rows.status_code != 200:
            return False
        found = rows.json()["results"]
        if len(found) != len(receipts):
            self._notebook.broken(f"lost: {batch.name} has {len(found)} rows")
        for receipt, row in zip(receipts, found, strict=False):
            if row["job_id"] is not None:  # somebody may have deleted it by now
                self._notebook.accepted(receipt, row)
        return True

    def send_again(self, receipt: Receipt) -> None:
        """The same key once more, though it was answered: the same job, and marked as a replay."""
        path, body = self._asked(receipt.order)
        reply = self.ask("POST", path, json=body, headers=receipt.order.headers())
        if reply is not None and reply.status_code == 202:
            self._notebook.accepted(receipt, reply.json())
            self._notebook.replays += 1
            if reply.headers.get("Idempotency-Replayed") != "true":
                self._notebook.broken(
                    f"doubled: {receipt.name}: a replay does not say that it is one"
                )

    def hang_up(self, order: PlannedOrder, share: float) -> Receipt:
        """Leave after that share of the bytes of an order; 1: after all, but before the answer."""
        receipt = self._notebook.add(Receipt(order))
        path, asked = self._asked(order)
        body = json.dumps(asked).encode()
        headers = {
            "Host": f"127.0.0.1:{self._port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        } | order.headers()
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode()
        whole = head + body
        sent = whole[: round(share * len(whole))]
        if len(sent) < len(whole):
            receipt.answer = Answer.CUT
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._port), 5) as s,
        ):
            s.sendall(sent)
        return receipt

    def _asked(self, order: PlannedOrder) -> tuple[str, dict[str, Any]]:
        """Path and body."""
        source = self._notebook.source
        return order.path(source), order.body(source)

    # ---- questions about a job ----

    def poll(self, receipt: Receipt, wait_s: int = 0) -> bool:
        """Ask how it is; with `wait_s`, wait so long for its end. True: the service answered."""
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
        return self._about(receipt, "GET", "", headers=headers)

    def cancel(self, receipt: Receipt) -> bool:
        self._notebook.asked(receipt, "cancel")
        answered = self._about(receipt, "POST", "/cancel")
        if answered and not receipt.delete_asked and receipt.end is None:
            self._notebook.broken(f"cancelled: {receipt.name} is {receipt.status} in the answer")
        return answered

    def delete(self, receipt: Receipt) -> bool:
        self._notebook.asked(receipt, "delete")
        return self._about(receipt, "DELETE", "")

    def _about(self, receipt: Receipt, method: str, path: str, **rest: Any) -> bool:
        asked_at = time.monotonic()
        reply = self.ask(method, f"/v1/jobs/{receipt.job_id}{path}", **rest)
        if reply is None or reply.status_code in NOT_NOW:
            return False
        if reply.status_code == 200:
            self._notebook.saw(receipt, reply.json(), asked_at)
        elif reply.status_code == 204:
            self._notebook.gone(receipt)
        elif reply.status_code == 410:
            self._notebook.gone(receipt)
            if reply.json()["code"] != "deleted":
                self._notebook.broken(f"lost: {receipt.name}: {reply.text}")
        else:
            self._notebook.broken(f"lost: {method} {path} {receipt.name}: {reply.status_code}")
        return True

    def listen(self, receipt: Receipt | None, enough: Callable[[int], bool]) -> int:
        """Open a stream of events, of one job or of all, and hang up in the middle of it, at the latest
        when nothing comes for 3 s. Returns how many lines came."""
        path = "/v1/events" if receipt is None else f"/v1/jobs/{receipt.job_id}/events"
        timeout = httpx.Timeout(5, read=3)
        lines: list[str] = []
        asked_at = time.monotonic()
        with (
            contextlib.suppress(httpx.TransportError),
            self._http.stream("GET", path, params={"preview": "true"}, timeout=timeout) as reply,
        ):
            if reply.status_code == 200:
                for line in reply.iter_lines():
                    lines.append(line)
                    if enough(len(lines)):
                        break
        if receipt is not None and (event := _first_event(lines)) is not None:
            if event["event"] == "status":
                self._notebook.saw(receipt, json.loads(event["data"]), asked_at)
            else:
                self._notebook.broken(f"events: {receipt.name} begins with {event['event']}")
        return len(lines)

    # ---- questions about the service ----

    def alive(self) -> bool:
        reply = self.ask("GET", "/healthz", timeout=5)
        return reply is not None and reply.status_code == 200

    def ready(self) -> bool:
        reply = self.ask("GET", "/readyz", timeout=10)
        return reply is not None and reply.status_code == 200

    def look(self, job_id: str) -> Job | None:
        """A job that perhaps no receipt knows. None: no answer came; {}: there is no such job."""
        reply = self.ask("GET", f"/v1/jobs/{job_id}", timeout=10)
        if reply is None or reply.status_code in NOT_NOW:
            return None
        return reply.json() if reply.status_code == 200 else {}

    def ask(
        self, method: str, path: str, timeout: float = TIMEOUT_S, **rest: Any
    ) -> httpx.Response | None:
        """None: the service itself did not answer. Serve's proxy may have, in plain text: the replica is
        gone, or not there yet."""
        try:
            reply = self._http.request(method, path, timeout=timeout, **rest)
        except httpx.TransportError:
            return None
        kind = reply.headers.get("content-type", "")
        if reply.status_code >= 400 and not kind.startswith("application/problem+json"):
            return None
        if reply.status_code >= 500 and reply.status_code not in NOT_NOW:
            self._notebook.broken(f"error: {method} {path}: {reply.status_code} {reply.text}")
        return reply


def _first_event(lines: list[str]) -> dict[str, str] | None:
    """None: it did not come whole."""
    if "" not in lines:
        return None
    fields = (line.split(": ", 1) for line in lines[: lines.index("")] if not line.startswith(":"))
    event = dict(field for field in fields if len(field) == 2)
    return event if {"event", "data"} <= event.keys() else None


def final(job: Job | None) -> bool:
    """The job has ended, or it does not exist (any more)."""
    return job is not None and (not job or job["status"] in TERMINAL)
