"""Every option of TLS as real clients see it: OpenSSL's s_client and GnuTLS's gnutls-cli, a test a row."""

from pathlib import Path

import pytest
from tls_peers import folder, plain_client, root, shake
from tls_programs import GNUTLS, OPENSSL, context_with, converse, needs_gnutls, the_failure, the_only, written

from triosmtp.tls import MaterialError, load_material
from triosmtp.tls.engine import Engine

OLD = ["-cipher", "ALL:@SECLEVEL=0"]
FLAGS = {"TLSv1": "-tls1", "TLSv1.1": "-tls1_1", "TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}
ALL_VERSIONS = ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize(
    ("protocols", "accepted"),
    [
        (("TLSv1.2", "TLSv1.3"), {"TLSv1.2", "TLSv1.3"}),
        (("TLSv1.3",), {"TLSv1.3"}),
        (("TLSv1.2",), {"TLSv1.2"}),
        (("TLSv1.1", "TLSv1.2"), {"TLSv1.1", "TLSv1.2"}),
        (("TLSv1.1", "TLSv1.3"), {"TLSv1.1", "TLSv1.3"}),
        (("TLSv1.0", "TLSv1.3"), {"TLSv1", "TLSv1.3"}),
        (ALL_VERSIONS, set(FLAGS)),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else "",
)
async def test_tls_protocols(protocols: tuple[str, ...], accepted: set[str]) -> None:
    context = context_with(protocols=protocols)
    for version, flag in FLAGS.items():
        printed, learnt = await converse(context, [*OPENSSL, flag, *OLD])
        if version in accepted:
            assert the_only(learnt).protocol == version
            assert "220 ready" in printed
        else:
            # If a version in the middle is missing, OpenSSL tries an older one, which the client refuses.
            gap = len(accepted) == 2 and min(accepted) < version < max(accepted)
            assert the_failure(learnt).reason == ("protocol_error" if gap else "no_common_version")


@needs_gnutls
@pytest.mark.parametrize(
    ("priority", "protocol"),
    [("NORMAL", "TLSv1.3"), ("NORMAL:-VERS-TLS1.3", "TLSv1.2"), ("NORMAL:-VERS-ALL:+VERS-TLS1.1", None)],
)
async def test_tls_protocols_by_gnutls(priority: str, protocol: str | None) -> None:
    _, learnt = await converse(context_with(), [*GNUTLS, "--priority", priority])
    if protocol is None:
        assert the_failure(learnt).reason == "no_common_version"
    else:
        assert the_only(learnt).protocol == protocol


def test_no_certificate_and_no_version() -> None:
    for changes, words in (
        ({"certificates": ()}, "TLS_Certificate: names no certificate"),
        ({"protocols": ()}, "TLS_Protocols: leaves no protocol version"),
        ({"protocols": ("SSLv3",)}, 'TLS_Protocols: "SSLv3" is not a protocol version that can be enabled'),
    ):
        with pytest.raises(MaterialError) as failure:
            context_with(**changes)
        assert str(failure.value) == words


def test_paths_are_not_read_again(tmp_path: Path) -> None:
    files = written(root().issue("localhost"), "fleeting")
    material = load_material(context_with(certificates=(files,)).material.settings)
    files.certificate.unlink()
    assert set(material.files) == {files.certificate, files.key, folder() / "ca.pem"}


def test_the_post_quantum_group_is_left_on() -> None:
    engine = Engine(context_with().context)
    shake(engine, plain_client())
    assert engine.openssl_connection.get_group_name() == "X25519MLKEM768"
