"""Which URLs may be webhooks, and which addresses may be called."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from serve_app.errors import InvalidField
from serve_app.webhooks.address import MAX_URL, Target, may_call, target_of

LOOPBACK = [
    "127.0.0.1",
    "127.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "0.0.0.0",
    "[::]",
    "%31%32%37.0.0.1",
    "①②⑦.⓪.⓪.①",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_is_refused_in_every_spelling(host: str) -> None:
    with pytest.raises(InvalidField):
        target_of(f"https://{host}/hook")


@pytest.mark.parametrize(
    "address",
    [
        # is_global is true for each of these
        "224.0.0.1",
        "ff02::1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001::1",
        "::7f00:1",
        "192.0.0.8",
        "192.88.99.1",
        # and false for these
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "198.18.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "::1",
        "fc00::1",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:10.0.0.1",
    ],
)
def test_an_address_that_is_not_public_is_not_called(address: str) -> None:
    assert not may_call(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:1.1.1.1"])
def test_a_public_address_is_called(address: str) -> None:
    assert may_call(ip_address(address))


def test_an_operator_may_allow_a_network() -> None:
    allowed = [ip_network("10.1.0.0/16")]
    assert may_call(ip_address("10.1.2.3"), allowed)
    assert may_call(ip_address("::ffff:10.1.2.3"), allowed)
    assert not may_call(ip_address("10.2.0.1"), allowed)
    assert target_of("https://10.1.2.3:8443/hook", allowed).port == 8443
    with pytest.raises(InvalidField):
        target_of("https://10.2.0.1/hook", allowed)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://build.example/hook", "https"),
        ("ftp://build.example/hook", "https"),
        ("build.example/hook", "https"),
        ("//build.example/hook", "https"),
        ("", "characters"),
        ("https://", "host"),
        ("https:///hook", "host"),
        ("https://user@build.example/hook", "user"),
        ("https://user:password@build.example/hook", "user"),
        ("https://build.example@10.0.0.1/", "user"),
        ("https://build.example\\@10.0.0.1/", "characters"),
        ("https://build.example/a b", "characters"),
        ("https://build.example/\r\nX: y", "characters"),
        ("https://bücher.example/", "characters"),
        ("https://build.example/#part", "fragment"),
        ("https://build.example:0/", "port"),
        ("https://build.example:/", "port"),
        ("https://build.example:99999/", "URL"),
        ("https://[::1/", "URL"),
        ("https://[fe80::1%25eth0]/", "IPv6"),
        ("https://1.2.3/", "four numbers"),
        ("https://1.2.3.4.5/", "host"),
        ("https://-build.example/", "host"),
        ("https://build..example/", "host"),
        ("https://build%2eexample/", "host"),
        (f"https://build.example/{'x' * 2048}", "longer"),
    ],
)
def test_what_is_no_webhook_is_told_why(url: str, why: str) -> None:
    with pytest.raises(InvalidField, match=f"^webhook: .*{why}"):
        target_of(url)


def test_a_url_is_taken_apart_once() -> None:
    target = target_of("HTTPS://Build.Example:8443/hooks/art?x=1&y=%2F")
    assert target == Target("build.example", 8443, "/hooks/art?x=1&y=%2F")
    assert target.authority == "build.example:8443"
    assert target_of("https://build.example").target == "/"
    assert target_of("https://build.example?x=1").target == "/?x=1"
    assert target_of("https://[2606:2800:21f:cb07::1]/").authority == "[2606:2800:21f:cb07::1]"
    assert target_of("https://xn--bcher-kva.example/").host == "xn--bcher-kva.example"
    assert len(f"https://build.example/{'x' * (MAX_URL - 22)}") == MAX_URL
    assert target_of(f"https://build.example/{'x' * (MAX_URL - 22)}")
