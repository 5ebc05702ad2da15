"""No test reaches the network: every connection and name lookup but those of this machine is refused and noted.

Python runs a file of this name when it starts, if it lies on PYTHONPATH: so the guard is in the processes that tests
start too. It is an audit hook, which sees what Python code asks of the operating system and which nothing takes off
again. Sockets that compiled code opens by itself stay unseen.
"""

import functools
import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

NOTES = "ZOO_TEST_REFUSED"
"""The variable that names the file in which refused hosts are noted, one a line."""
OWN_NAMES = ("", "localhost", os.uname().nodename)
# What Python's audit events say: from their arguments to the host, which is None where none is named.
HOSTS: dict[str, Callable[..., object]] = {
    "socket.connect": lambda _, address: address,
    "socket.sendto": lambda _, address: address,
    "socket.sendmsg": lambda _, address: address,
    "socket.getaddrinfo": lambda host, *_: host,
    "socket.gethostbyname": lambda host: host,
    "socket.gethostbyaddr": lambda host: host,
    "socket.getnameinfo": lambda address: address,
}


class RefusedError(ConnectionError):
    """What code without a network gets; the test fails even where somebody catches this."""


def is_of_this_machine(host: object) -> bool:
    """Whether what is asked for stays on this machine: loopback, its own name or address, a socket with a path."""
    if isinstance(host, tuple):  # (host, port, ...) of an internet address; others begin with a number
        host = host[0]
    elif isinstance(host, str | bytes) and os.fsdecode(host).startswith(("/", "\0")):
        return True
    if not isinstance(host, str | bytes):
        return True
    name = os.fsdecode(host).removesuffix(".").lower()
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name in OWN_NAMES
    return address.is_loopback or is_own(address)


def is_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a network card of this machine has the address: only then can a socket be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """The audit hook: note the host and raise `RefusedError`, unless it is this machine."""
    find = HOSTS.get(event)
    if find is None or is_of_this_machine(host := find(*arguments)):
        return
    if notes := os.environ.get(NOTES):
        with Path(notes).open("a") as file:
            file.write(f"{host}\n")
    raise RefusedError(f"no network in tests: {event} of {host}")


def looked_up_late(method: Callable[..., object]) -> Callable[..., object]:
    """A method of sockets that finds the address of a name before the audit hook hears of it: ask the hook first."""

    @functools.wraps(method)
    def ask_first(sender: socket.socket, *arguments: object) -> object:
        refuse("socket.connect", (sender, arguments[-1] if arguments else None))
        return method(sender, *arguments)

    return ask_first


sys.addaudithook(refuse)
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, looked_up_late(getattr(socket.socket, name)))
