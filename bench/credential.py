"""Certificates for one run: an authority, a server, a client."""

from pathlib import Path

import trustme

from bench.client import Credentials

__all__ = ["make_credentials"]


def make_credentials(folder: Path) -> Credentials:
    """Make an authority, a server and a client, all with P-256 keys."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    server = authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    client = authority.issue_cert("client@example.org", key_type=trustme.KeyType.ECDSA)
    names = ("authority.pem", "server.pem", "server.key", "client.pem", "client.key")
    credentials = Credentials(*(folder / name for name in names))
    authority.cert_pem.write_to_path(str(credentials.authority))
    server.cert_chain_pems[0].write_to_path(str(credentials.server_certificate))
    client.cert_chain_pems[0].write_to_path(str(credentials.client_certificate))
    for key, pem in ((credentials.server_key, server), (credentials.client_key, client)):
        key.touch(mode=0o600)
        pem.private_key_pem.write_to_path(str(key))
    return credentials
