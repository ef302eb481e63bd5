"""The address of the live page, and the machines that may reach it."""

import socket

import pytest

from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.core.errors import PreviewError
from squeezedrive.pipeline.preview.address import Address, parse_address
from tests.support.preview import Run


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (8080, "127.0.0.1", 8080),
        ("8080", "127.0.0.1", 8080),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("[::1]:8080", "::1", 8080),
        ("[::]:65535", "::", 65535),
    ],
)
def test_address(text, host, port):
    assert parse_address(text) == Address(host, port)


def test_host_names_are_resolved():
    assert parse_address("localhost:8080").loopback


@pytest.mark.parametrize(
    "text",
    ["", "http", "localhost", ":8080", "localhost:", "65536", "-1", "::1:8080", "8080/", "٨٠٨٠"],
)
def test_malformed_addresses_are_refused(text):
    with pytest.raises(ConfigError, match=r"preview.address: expected \[HOST:\]PORT"):
        parse_address(text)


def test_an_unknown_host_is_an_error(monkeypatch):
    def look_up(*args, **kwargs):
        raise socket.gaierror

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    with pytest.raises(ConfigError, match=r"tablet.invalid is not an address"):
        parse_address("tablet.invalid:8080")


@pytest.mark.parametrize("token", [None, ""])
@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"])
def test_an_address_for_other_machines_requires_a_password(address, token):
    with pytest.raises(ConfigError, match=r"other machines, which needs a password: set preview"):
        Run().server(address, token)


def test_other_machines_may_connect_with_a_password():
    with Run().server("0.0.0.0:0", "secret") as server:
        assert server.url.startswith("http://0.0.0.0:")


def test_a_port_in_use_is_an_error_of_one_line():
    with Run().server() as server:
        port = int(server.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(PreviewError) as caught:
            Run().server(port)
    assert str(caught.value) == (
        f"preview.address: cannot serve at 127.0.0.1:{port}: Address already in use;"
        " choose another port"
    )


def test_an_address_of_another_machine_is_an_error_of_one_line():
    with pytest.raises(PreviewError, match=r"cannot serve at 192\.0\.2\.1:8080: Cannot assign"):
        Run().server("192.0.2.1:8080", "secret")


def test_a_port_is_free_again_at_once():
    with Run().server() as server:
        port = int(server.url.rstrip("/").rpartition(":")[2])
    Run().server(port).close()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_serves_ipv6():
    try:
        server = Run().server("[::1]:0")
    except PreviewError:
        pytest.skip("this machine has no IPv6 loopback address")
    with server:
        assert server.url.startswith("http://[::1]:")
