"""What can be told of a host from its text alone: nothing is resolved here."""

import ipaddress
import re
import socket
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

LONGEST_NAME = 253  # RFC 1035, without the last dot
# Underscores are no part of a host's name, and Docker gives such names.
_LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)", re.ASCII)
# Translators on the way make an IPv4 address of these; it is their last 32 bits.
_TRANSLATED = tuple(
    map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96"))
)
_V4_BITS = 0xFFFFFFFF


def literal(host: str) -> Address | None:
    """Return the address that *host* is, also in the forms of inet_aton(3); None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if not re.fullmatch(r"[0-9a-fA-FxX.]+", host):
        return None  # inet_aton stops at a blank, and takes what came before
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def is_host(text: str) -> bool:
    """Return whether *text* may be a host: an address, or a name that might resolve."""
    if literal(text) is not None:
        return True
    try:
        name = text.removesuffix(".").encode("idna").decode("ascii")
    except UnicodeError:  # an empty label, or one that is too long
        return False
    labels = name.split(".")
    if len(name) > LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        return False
    return not labels[-1].isdigit()  # such a name would be an IPv4 address, and is none


def is_network(text: str) -> bool:
    """Return whether *text* is an address or a network, also one with host bits."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def is_link_local(host: str) -> bool:
    """Return whether *host* is a literal link-local address, or stands for one."""
    address = literal(host.rstrip("."))
    if address is None:
        return False
    return any(form.is_link_local for form in (address, *wrapped(address)))


def wrapped(address: Address) -> list[Address]:
    """Return the IPv4 addresses that a translator on the way would make of *address*."""
    if isinstance(address, IPv4Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
    found += address.teredo or ()
    if any(address in network for network in _TRANSLATED):
        found.append(IPv4Address(int(address) & _V4_BITS))
    return [form for form in found if form is not None]
