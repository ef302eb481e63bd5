"""HTTPS of the live page."""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.preview import listener
from tests.support.preview import Run, ask, connect, preview_threads, until

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the command openssl for a certificate"
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a key and its certificate, for this machine."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return key, certificate


@pytest.fixture
def pem(parts: tuple[Path, Path], tmp_path: Path) -> Path:
    path = tmp_path / "page.pem"
    path.write_text("".join(part.read_text() for part in parts))
    return path


@pytest.fixture
def run() -> Run:
    return Run()


def trusting(pem: Path, **options: object) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pem))
    for name, value in options.items():
        setattr(context, name, value)
    return context


def get(url: str, path: str, context: ssl.SSLContext) -> http.client.HTTPResponse:
    where = urlsplit(url)
    connection = http.client.HTTPSConnection(
        where.hostname or "", where.port, timeout=10, context=context
    )
    connection.request("GET", path)
    return connection.getresponse()


def test_serves_the_page_over_https(run, pem):
    with run.server(token="secret", tls=pem) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with get(server.url, "/?token=secret", trusting(pem)) as answer:
            assert answer.status == 303
            assert "; Secure" in answer.headers["Set-Cookie"]
        with get(server.url, "/page.css", trusting(pem)) as answer:
            assert answer.status == 200
            assert len(answer.read()) == int(answer.headers["Content-Length"])
    assert not preview_threads()


def test_plain_http_gets_no_answer_and_no_log_line(run, pem, capfd, caplog):
    with run.server(tls=pem) as server:
        assert b"200 OK" not in ask(server.url, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with get(server.url, "/status", trusting(pem)) as answer:
            assert json.load(answer)["model"] == "squeezedrive-v3"
    assert capfd.readouterr().err == caplog.text == ""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_versions_of_tls_are_refused(run, pem):
    context = trusting(pem, maximum_version=ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with run.server(tls=pem) as server, pytest.raises((ssl.SSLError, ConnectionResetError)):
        get(server.url, "/", context)


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_an_unfinished_handshake_is_cut_off(run, pem, monkeypatch, begun):
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.5)
    with run.server(tls=pem) as server, connect(server.url) as client:
        client.sendall(begun)
        assert until(lambda: len(preview_threads()) == 2)
        assert until(lambda: len(preview_threads()) == 1)


def test_closes_while_clients_are_connected(run, pem):
    server = run.server(tls=pem)
    where = urlsplit(server.url)
    plain = socket.create_connection((where.hostname, where.port), timeout=10)
    with trusting(pem).wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(b"GET /")
        server.close()
        assert not preview_threads()


@pytest.mark.parametrize("lacks", ["key", "certificate", "both", "file"])
def test_an_invalid_certificate_is_an_error_of_one_line(run, parts, tmp_path, lacks):
    path = tmp_path / "page.pem"
    if lacks == "both":
        path.write_text("nothing")
    elif lacks != "file":
        path.write_text(parts[lacks == "key"].read_text())
    with pytest.raises(
        ConfigError, match=r"^preview\.tls: \S+/page\.pem: expected a PEM"
    ) as caught:
        run.server(tls=path)
    assert "\n" not in str(caught.value)


def test_an_encrypted_key_is_not_asked_for_at_the_terminal(run, parts, tmp_path):
    key, certificate = parts
    locked = subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", key, "-passout", "pass:secret"],
        check=True, capture_output=True, timeout=60, text=True,
    )  # fmt: skip
    path = tmp_path / "page.pem"
    path.write_text(locked.stdout + certificate.read_text())
    with pytest.raises(ConfigError, match="which is not encrypted"):
        run.server(tls=path)
