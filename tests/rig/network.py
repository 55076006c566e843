"""Ports, subnets and the bridge of the second engine."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from collections.abc import Iterable

from .console import RigError, run

BRIDGE = "imagesmith1"  # of the second engine; at most 15 characters


def port_is_free(port: int) -> bool:
    """Tell whether nothing listens on that loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(wanted: Iterable[int]) -> list[int]:
    """Return each wanted port where it is free, else the next free one above it."""
    found: list[int] = []
    for first in wanted:
        candidates = (port for port in range(first, first + 200) if port not in found and port_is_free(port))
        found.append(next(candidates))
    return found


def free_subnets(count: int) -> list[str]:
    """Return /24 networks that overlap no route and no address of this machine."""
    routes: list[dict[str, str]] = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]))
    taken = [
        ipaddress.ip_network(destination, strict=False)
        for destination in (str(route.get("dst", "")) for route in routes)
        if re.fullmatch(r"[0-9.]+(/[0-9]+)?", destination)
    ]
    candidates = (ipaddress.ip_network(f"172.31.{third}.0/24") for third in range(200, 256))
    free = [str(network) for network in candidates if not any(network.overlaps(other) for other in taken)]
    if len(free) < count:
        raise RigError("no free /24 in 172.31.200.0-172.31.255.0 for the engines' bridges")
    return free[:count]


def gateway(subnet: str) -> str:
    """Return the first address with the prefix length: ``172.31.200.0/24`` -> ``172.31.200.1/24``."""
    network = ipaddress.ip_network(subnet)
    return f"{network[1]}/{network.prefixlen}"


def mtu() -> int:
    """Return the MTU of the default route's device: a bridge with a larger one loses packets."""
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "default"]))
    if not routes:
        return 1500
    links = json.loads(run(["ip", "-json", "link", "show", "dev", routes[0]["dev"]]))
    return int(links[0]["mtu"])


def bridge_up(subnet: str) -> None:
    """Make the second engine's bridge and its way out: two engines must not both manage iptables."""
    if _links(BRIDGE):
        bridge_down(subnet)
    run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "add", gateway(subnet), "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    for rule in _rules(subnet):
        run(["iptables", "--wait", *rule])


def bridge_down(subnet: str) -> None:
    """Undo ``bridge_up``, whatever of it there is."""
    for rule in _rules(subnet):
        opposite = ["-D" if word in {"-A", "-I"} else word for word in rule]
        try:
            while True:
                run(["iptables", "--wait", *opposite])
        except RigError:
            continue
    if _links(BRIDGE):
        run(["ip", "link", "delete", BRIDGE])


def _links(name: str) -> list[str]:
    return [
        link["ifname"] for link in json.loads(run(["ip", "-json", "link", "show"])) if link["ifname"] == name
    ]


def _rules(subnet: str) -> list[list[str]]:
    return [
        ["-t", "nat", "-A", "POSTROUTING", "-s", subnet, "!", "-o", BRIDGE, "-j", "MASQUERADE"],
        ["-I", "FORWARD", "-i", BRIDGE, "-j", "ACCEPT"],
        [
            "-I",
            "FORWARD",
            "-o",
            BRIDGE,
            "-m",
            "conntrack",
            "--ctstate",
            "RELATED,ESTABLISHED",
            "-j",
            "ACCEPT",
        ],
    ]
