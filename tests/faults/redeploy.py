"""BackgroundRedeploy: a redeploy in a thread of its own, so that other faults can strike while it runs.

Knows nothing of those faults.
"""

from __future__ import annotations

import threading

from tests.cluster.service import Service


class BackgroundRedeploy:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._thread: threading.Thread | None = None
        self.error: str | None = None

    def begin(self) -> None:
        """Deploy the same settings again, after a redeploy that still runs."""
        self.wait()
        self._thread = threading.Thread(target=self._deploy, name="redeploy")
        self._thread.start()

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def forget(self) -> None:
        """The cluster is gone: that a redeploy failed on it is not the service's fault."""
        self.wait()
        self.error = None

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _deploy(self) -> None:
        try:
            self._service.deploy()
        except (AssertionError, OSError, ValueError) as error:  # the host is gone, or its pipes are
            self.error = str(error)
