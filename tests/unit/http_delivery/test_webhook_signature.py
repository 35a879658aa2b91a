"""Signatures of requests: the example of the specification, two secrets at once, and files that change."""

import base64
import logging
from pathlib import Path

import pytest
import trio
import trio.testing

from triosmtp.delivery import SecretFile, SecretFileError
from triosmtp.http_delivery.webhook_signature import SigningSecrets, WebhookSigner, decode_secret

FIRST = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECOND = f"whsec_{base64.b64encode(b'x' * 32).decode()}"
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="  # of the test of the library of Standard Webhooks


def sign(*secrets: str) -> str:
    signer = WebhookSigner(map(decode_secret, secrets), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330)
    for part in (b'{"test"', b": ", b"2432232314}"):
        signer.update(part)
    return signer.signature


def test_a_signature_is_that_of_standard_webhooks() -> None:
    assert sign(FIRST) == SIGNED


def test_each_secret_has_a_signature_the_newest_first() -> None:
    newest, former = sign(SECOND, FIRST).split(" ")
    assert former == SIGNED
    assert newest == sign(SECOND) != SIGNED


@pytest.mark.parametrize(
    "text", ["", "hunter2", "whsec_", "whsec_***", "whsec_AAAA", f"whsec_{'A' * 200}", "whsec_é" * 9]
)
def test_what_is_no_secret_is_an_error_that_does_not_show_it(text: str) -> None:
    with pytest.raises(ValueError, match="a secret is whsec_ and the base64 of 24 to 64 random octets") as error:
        decode_secret(text)
    assert not text or text not in str(error.value).replace("whsec_", "", 1)


async def test_a_second_secret_and_a_new_one_are_used_from_the_file(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{FIRST}\n")
    secrets = SigningSecrets(SecretFile(path, secrets=2))
    secrets.check()
    assert await secrets.read() == (decode_secret(FIRST),)
    path.write_text(f"{SECOND}\n{FIRST}\n")
    await trio.sleep(1)
    assert await secrets.read() == (decode_secret(SECOND), decode_secret(FIRST))
    path.write_text("not a secret\n")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await trio.sleep(1)
            assert await secrets.read() == (decode_secret(SECOND), decode_secret(FIRST))
    [record] = caplog.records
    assert "the former secrets stay in use" in record.getMessage()
    assert "not a secret" not in caplog.text


@pytest.mark.parametrize("content", ["", "plain\n", f"{FIRST}\n{FIRST}\n{FIRST}\n"])
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    with pytest.raises(SecretFileError, match="secret"):
        SigningSecrets(SecretFile(tmp_path / "secret", secrets=2)).check()
