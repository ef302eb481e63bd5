"""HTTPS for the live page."""

from __future__ import annotations

import ssl
from pathlib import Path

from squeezedrive.engines.errors import ConfigError

EXPECTED = "expected a PEM file with a certificate and its private key, which is not encrypted"


def load_certificate(path: Path) -> ssl.SSLContext:
    """Return the context of a server that speaks TLS 1.2 and newer.

    Parameters
    ----------
    path : Path
        A PEM file: the private key, the certificate and those between it and its authority.

    Raises
    ------
    ConfigError
        If it cannot be read, or is not such a file.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(path, password=_no_password)
    except ssl.SSLError as error:
        raise ConfigError(f"preview.tls: {path}: {EXPECTED}; OpenSSL: {error.reason}") from None
    except OSError as error:
        raise ConfigError(f"preview.tls: {path}: {EXPECTED}: {error.strerror}") from None
    return context


def _no_password() -> str:
    """Return an empty password, so that OpenSSL does not ask for one at the terminal."""
    return ""
