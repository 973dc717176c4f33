"""Which addresses may be dialled: judged at the socket, on the address itself.

A check before that, of the URL or in a resolver, sees another answer than the one that is
dialled (DNS rebinding) and never sees a literal address at all.

Who wrote the address decides. A literal, `localhost`, or a host named in PSI_ALLOW_PRIVATE
is the operator's word and may be private: n8n on this machine is normal. What any other name
resolves to is somebody's DNS, and must be public, or in a network of PSI_ALLOW_PRIVATE.
Link-local, where clouds keep their credentials, is refused to all.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from router.config.addresses import Address, wrapped

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, Any]

# `is_global` is true of these (CPython 3.11.7): relays of 6to4, multicast.
_V4_NOT_PUBLIC = tuple(map(ipaddress.IPv4Network, ("192.88.99.0/24", "224.0.0.0/3")))
# IANA gave out no more than this; outside lie loopback, mapped, NAT64, ULA, multicast …
_V6_UNICAST = ipaddress.IPv6Network("2000::/3")
# Inside: Teredo and other protocols' own, 6to4, two for documentation.
_V6_NOT_PUBLIC = tuple(
    map(
        ipaddress.IPv6Network,
        ("2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20"),
    )
)


class Forbidden(OSError):
    """The address may not be dialled."""

    def __init__(self) -> None:
        """Say so, without the address: this text is stored and shown."""
        super().__init__("address not allowed")


@dataclass(frozen=True, slots=True)
class Guard:
    """What may be dialled for a destination that the operator did not spell out."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, allow_private: Iterable[str]) -> Self:
        """Read PSI_ALLOW_PRIVATE: what is no address or network is a host's name."""
        hosts, networks = set(), []
        for entry in filter(None, map(str.strip, allow_private)):
            try:
                networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                hosts.add(_plain(entry))
        return cls(frozenset(hosts), tuple(networks))

    def trusts(self, host: str) -> bool:
        """Return whether *host*, as the URL has it, is the operator's own word."""
        name = _plain(host)
        return name == "localhost" or name in self.hosts or _address(name) is not None

    def allows(self, address: Address, *, trusted: bool) -> bool:
        """Return whether *address* may be dialled."""
        if any(form.is_link_local for form in (address, *wrapped(address))):
            return False
        allowed = any(address in network for network in self.networks)
        return trusted or allowed or is_public(address)

    def dialler(self, *, trusted: bool) -> Callable[[AddrInfo], socket.socket]:
        """Return a factory of sockets that raises `Forbidden` for a wrong address."""

        def make(info: AddrInfo) -> socket.socket:
            family, kind, protocol, _, where = info
            address = _address(str(where[0]))
            if address is None or not self.allows(address, trusted=trusted):
                raise Forbidden
            return socket.socket(family, kind, protocol)

        return make


def is_public(address: Address) -> bool:
    """Return whether *address* is an ordinary host of the Internet, in its own form."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not any(address in net for net in _V4_NOT_PUBLIC)
    return address in _V6_UNICAST and not any(address in net for net in _V6_NOT_PUBLIC)


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
