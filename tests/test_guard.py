import ipaddress
import socket

import pytest

from router.destinations.guard import Forbidden, Guard, is_public

NOBODY = Guard.of(("",))  # PSI_ALLOW_PRIVATE is unset

PUBLIC = ["8.8.8.8", "157.240.1.1", "2606:4700::1111", "2a03:2880::1"]
NOT_PUBLIC = [
    "0.0.0.0",  # noqa: S104 -- to be refused
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.0.9",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
LINK_LOCAL = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%2",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",  # Teredo: its server
    "2001:0:808:808:0:0:5601:5601",  # Teredo: its client, every bit turned over
]


def dial(guard: Guard, address: str, *, trusted: bool = False) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    info = (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 80))
    try:
        guard.dialler(trusted=trusted)(info).close()
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize("address", PUBLIC)
def test_a_name_may_resolve_to_what_is_public(address: str) -> None:
    assert dial(NOBODY, address)


@pytest.mark.parametrize("address", NOT_PUBLIC + LINK_LOCAL)
def test_a_name_may_resolve_to_nothing_else(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    assert not dial(NOBODY, address)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fd00::1"])
def test_the_operators_own_word_may_be_private(address: str) -> None:
    assert dial(NOBODY, address, trusted=True)


@pytest.mark.parametrize("address", LINK_LOCAL)
def test_link_local_is_refused_to_all(address: str) -> None:
    assert not dial(NOBODY, address, trusted=True)
    everything = Guard.of(("0.0.0.0/0", "::/0"))
    assert not dial(everything, address)


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("127.0.0.1", True),
        ("10.0.0.5", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("n8n.internal", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.nip.io", False),
        ("2130706433", False),
        ("127.1", False),
        ("0x7f000001", False),
    ],
)
def test_a_literal_and_localhost_are_the_operators_word(
    host: str,
    trusted: bool,  # noqa: FBT001
) -> None:
    assert NOBODY.trusts(host) is trusted


def test_a_network_that_is_allowed_may_be_resolved_to() -> None:
    guard = Guard.of(("10.1.0.0/16", " 192.168.7.7", "fd00::/8"))
    assert dial(guard, "10.1.2.3")
    assert dial(guard, "192.168.7.7")
    assert dial(guard, "fd00::1")
    assert not dial(guard, "10.2.0.1")
    assert not dial(guard, "192.168.7.8")


def test_a_host_that_is_allowed_is_trusted() -> None:
    guard = Guard.of(("N8N.internal",))
    assert guard.trusts("n8n.internal")
    assert not guard.trusts("crm.internal")
