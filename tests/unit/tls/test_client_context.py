"""Contexts for connections to other servers: their files, their renewal, their errors."""

import logging
from pathlib import Path

import pytest
from tls_peers import foreign_root, root

from triosmtp.tls.client_context import ClientContext, ClientTLSSettings, build_client_context
from triosmtp.tls.settings import MaterialError


def test_files_of_the_settings(tmp_path: Path) -> None:
    assert ClientTLSSettings().files == ()
    settings = ClientTLSSettings(ca=tmp_path / "a", certificate=tmp_path / "b", key=tmp_path / "c")
    assert [option for option, _ in settings.files] == ["TLS_CA", "TLS_Certificate", "TLS_Key"]


def test_errors_name_option_and_file(tmp_path: Path) -> None:
    certificate, key = root().issue("x").write(tmp_path, "x")
    other = root().issue("y").write(tmp_path, "y")[1]
    (tmp_path / "junk").write_text("junk")
    for settings, expected in (
        (ClientTLSSettings(ca=tmp_path / "none"), "TLS_CA .*does not exist"),
        (ClientTLSSettings(ca=tmp_path / "junk"), "TLS_CA .*not in PEM"),
        (ClientTLSSettings(certificate=tmp_path / "junk", key=key), "TLS_Certificate .*not in PEM"),
        (ClientTLSSettings(certificate=certificate, key=other), "TLS_Key .*does not match"),
        (ClientTLSSettings(ciphers="NO-SUCH"), "TLS_Ciphers: .*selects nothing"),
    ):
        with pytest.raises(MaterialError, match=expected):
            build_client_context(settings, {})


async def test_a_changed_file_is_used_and_a_broken_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(root().certificate_pem)
    context = ClientContext(ClientTLSSettings(ca=bundle))
    first = await context.get()
    assert await context.get() is first
    context._looked = 0.0
    assert await context.get() is first, "nothing has changed"
    bundle.write_bytes(foreign_root().certificate_pem)
    assert await context.get() is first, "at most one look in a second"
    context._looked = 0.0
    second = await context.get()
    assert second is not first
    bundle.write_text("junk")
    with caplog.at_level(logging.ERROR, "triosmtp.tls"):
        for _ in range(3):
            context._looked = 0.0
            assert await context.get() is second
    assert caplog.text.count("the files that were read before stay in use") == 1


async def test_without_a_previous_context_an_error_is_raised(tmp_path: Path) -> None:
    context = ClientContext(ClientTLSSettings(ca=tmp_path / "none"))
    for _ in range(2):
        with pytest.raises(MaterialError):
            await context.get()


def test_a_key_that_everybody_can_read_is_warned_of(tmp_path: Path) -> None:
    certificate, key = root().issue("x").write(tmp_path, "x")
    key.chmod(0o644)
    warnings = ClientContext(ClientTLSSettings(certificate=certificate, key=key)).refresh()
    assert any("can be read by every user" in str(each) for each in warnings)


def test_the_authorities_of_the_system() -> None:
    context, warnings = build_client_context(ClientTLSSettings(), {})
    assert context is not None
    assert warnings == ()
