"""An attempt to authenticate, as policies see it."""

from triosmtp.policy.auth_attempt import AuthAttempt


def test_the_password_is_not_in_the_text_of_an_attempt() -> None:
    attempt = AuthAttempt(mechanism="PLAIN", user="joe", password="correct horse")
    assert "correct horse" not in repr(attempt)
    assert attempt.proven is None
