"""Whom TLS trusts: one answer for links and the backend, and that of requests for the Web API.

The file or directory in REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, as for requests; then
SSL_CERT_FILE; else the certificates that come with requests (certifi).
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from requests import Session
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from chatrelaybot.errors import ConfigurationError


def context(ca_bundle: str | None = None) -> ssl.SSLContext:
    """Return a client's context; reading a bundle takes some 20 ms.

    `ca_bundle` is a file or directory of certificates; None: the one that the environment names.

    Raises:
        ConfigurationError: It is none.
    """
    name, bundle = ("", ca_bundle) if ca_bundle else _bundle()
    try:
        if Path(bundle).is_dir():
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        problem = f"it cannot be read ({type(error).__name__})"
        raise ConfigurationError(name or bundle, problem, "name a PEM file, or unset it") from error


def _bundle() -> tuple[str, str]:
    """Return the CA bundle, after the name of the variable that it may come from."""
    settings = Session().merge_environment_settings("https://slack.com/", {}, None, None, None)
    if isinstance(settings["verify"], str):
        is_first = os.environ.get("REQUESTS_CA_BUNDLE") == settings["verify"]
        return "REQUESTS_CA_BUNDLE" if is_first else "CURL_CA_BUNDLE", settings["verify"]
    return "SSL_CERT_FILE", os.environ.get("SSL_CERT_FILE") or DEFAULT_CA_BUNDLE_PATH
