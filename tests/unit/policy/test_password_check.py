"""A policy that checks passwords itself."""

import base64

import pytest
from memory_dialogue import conf, hello

from triosmtp import Policy
from triosmtp.event import AuthAttempted
from triosmtp.policy import CheckedPassword, PasswordAnswer, PasswordCheck, PasswordQuestion, Session
from triosmtp.testing import MemoryServer, open_memory_server

OPTIONS = """
SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "AUTH PLAIN LOGIN CRAM-MD5" )
Allow_Plaintext_Auth = true
AuthPlainParameters = [ uri = "radius://name/path" realm = "r" ]
AuthCramMD5Parameters = [ uri = "radius://" ]
Auth_Failure_Delay = 0.001
"""


class Checks(Policy, PasswordCheck):
    """Knows one user."""

    def __init__(self) -> None:
        self.asked: list[PasswordQuestion] = []

    def answers(self, scheme: str) -> bool:
        return scheme == "radius"

    async def check_password(self, session: Session, question: PasswordQuestion) -> PasswordAnswer:
        self.asked.append(question)
        if question.user == "fails":
            raise ValueError("the server of passwords is away")
        if question.user == "error":
            return PasswordAnswer(CheckedPassword.ERROR)
        right = (question.user, question.password) == ("joe", "secret")
        return PasswordAnswer(CheckedPassword.RIGHT if right else CheckedPassword.WRONG, "" if right else "not you")


def plain(user: str, password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


@pytest.mark.parametrize(
    ("user", "password", "reply"),
    [
        ("joe", "secret", "235 2.7.0 Authentication successful"),
        ("joe", "guess", "535 5.7.8 not you"),
        ("error", "x", "454 4.7.0 Temporary authentication failure"),
        ("fails", "x", "454 4.7.0 Temporary authentication failure"),
    ],
)
async def test_the_policy_decides_about_the_password(
    user: str, password: str, reply: str, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Checks()
    async with open_memory_server(conf(OPTIONS), policy=policy) as server:
        client = await hello(server)
        assert str(await client.command(plain(user, password))) == reply
        (attempt,) = [each for each in server.events if isinstance(each, AuthAttempted)]
    assert attempt.succeeded == reply.startswith("235")
    (question,) = policy.asked
    assert (question.scheme, question.file_name, question.arguments["realm"]) == ("radius", "name/path", "r")
    assert password not in repr(question)
    assert ("the server of passwords is away" in caplog.text) == (user == "fails")


async def mechanisms(server: MemoryServer) -> list[str]:
    client = server.connect()
    await client.read()
    lines = (await client.command("EHLO client.example")).lines
    return [word for line in lines if line.startswith("AUTH ") for word in line.split()[1:]]


async def test_mechanisms_with_a_readable_password_are_offered_if_a_policy_answers() -> None:
    async with open_memory_server(conf(OPTIONS), policy=Checks()) as server:
        assert await mechanisms(server) == ["PLAIN", "LOGIN"]
    async with open_memory_server(conf(OPTIONS)) as server:
        assert await mechanisms(server) == []
