"""Settings and certificate files that several modules of tests begin with."""

from pathlib import Path

import pytest
from reload_site import ReloadSite
from tls_peers import foreign_root, intermediate, root, settings_of

from triosmtp.tls import TLSSettings


@pytest.fixture
def good(tmp_path: Path) -> TLSSettings:
    certificate, key = intermediate().issue("mx.example.org", dns=["mx.example.org"]).write(tmp_path, "mx")
    bundle = tmp_path / "clients.pem"
    bundle.write_bytes(root().certificate_pem + foreign_root().certificate_pem)
    return settings_of(certificate, key, client_ca=bundle, request_certificate=True)


@pytest.fixture
def site(tmp_path: Path) -> ReloadSite:
    return ReloadSite(tmp_path)
