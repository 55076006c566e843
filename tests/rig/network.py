"""Ports, subnets and the bridge of the second engine."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket

from .console import RigError, run

PORTS = (5055, 5056, 5057)  # plain registry, TLS registry, buildkitd


def port_is_free(port: int) -> bool:
    """Tell whether nothing listens on that loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports() -> tuple[int, int, int]:
    """Return ports for the registry, the TLS registry and buildkitd: the usual, or the next free above."""
    plain, tls, remote = PORTS
    plain = _free_port(plain, set())
    tls = _free_port(tls, {plain})
    return plain, tls, _free_port(remote, {plain, tls})


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


def free_bridge() -> str:
    """Return a name for a bridge that no link has."""
    links = _links()
    return next(name for name in (f"imagesmith{number}" for number in range(1, 1000)) if name not in links)


def mtu() -> int:
    """Return the MTU of the default route's device: a bridge with a larger one loses packets."""
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "default"]))
    if not routes:
        return 1500
    links = json.loads(run(["ip", "-json", "link", "show", "dev", routes[0]["dev"]]))
    return int(links[0]["mtu"])


def bridge_up(name: str, subnet: str) -> None:
    """Make the second engine's bridge and its way out: two engines must not both manage iptables."""
    bridge_down(name, subnet)
    run(["ip", "link", "add", name, "type", "bridge"])
    keep_address(name, subnet)
    run(["ip", "address", "add", gateway(subnet), "dev", name])
    run(["ip", "link", "set", name, "up"])
    for rule in _rules(name, subnet):
        run(["iptables", "--wait", *rule])


def keep_address(bridge: str, subnet: str) -> None:
    """Give a bridge a hardware address that stays.

    Else it has that of one of its ports, another one when a container comes or goes, and containers that stay
    send into the void for up to a minute.
    """
    address = b"\x02\x42" + ipaddress.ip_network(subnet)[1].packed
    run(["ip", "link", "set", "dev", bridge, "address", address.hex(":")])


def bridge_down(name: str, subnet: str) -> None:
    """Undo ``bridge_up``, whatever of it there is."""
    for rule in _rules(name, subnet):
        opposite = ["-D" if word in {"-A", "-I"} else word for word in rule]
        with contextlib.suppress(RigError):  # until there is none left
            while True:
                run(["iptables", "--wait", *opposite])
    if name in _links():
        run(["ip", "link", "delete", name])


def _free_port(first: int, taken: set[int]) -> int:
    return next(port for port in range(first, first + 200) if port not in taken and port_is_free(port))


def _links() -> list[str]:
    return [link["ifname"] for link in json.loads(run(["ip", "-json", "link", "show"]))]


def _rules(bridge: str, subnet: str) -> list[list[str]]:
    return [
        ["-t", "nat", "-A", "POSTROUTING", "-s", subnet, "!", "-o", bridge, "-j", "MASQUERADE"],
        ["-I", "FORWARD", "-i", bridge, "-j", "ACCEPT"],
        [
            "-I",
            "FORWARD",
            "-o",
            bridge,
            "-m",
            "conntrack",
            "--ctstate",
            "RELATED,ESTABLISHED",
            "-j",
            "ACCEPT",
        ],
    ]
