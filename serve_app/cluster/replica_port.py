"""replica_port: a replica listens on the address of its node only, and not on every interface.

Knows one line of Ray Serve 2.60; nothing of what is sent there.
"""

from __future__ import annotations

from typing import Any

import ray
from ray._common import network_utils
from ray.serve._private import replica

EVERY_INTERFACE = "[::]:0"

_add_port = replica.add_port_to_grpc_server


def listen_on_node_address() -> None:
    """Must be called in a replica's `__init__`, before Serve opens the port.

    Each replica opens a port for gRPC calls of other deployments, also where none are made that way. Ray's
    token does not protect it, and what comes in is unpickled: whoever reaches it can run code.
    """
    replica.add_port_to_grpc_server = _add_port_of_node


def _add_port_of_node(server: Any, address: str) -> int:
    if address == EVERY_INTERFACE:
        address = network_utils.build_address(ray.util.get_node_ip_address(), 0)
    return _add_port(server, address)
