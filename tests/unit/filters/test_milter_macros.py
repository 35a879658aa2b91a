"""The macros and the steps of a milter, compared with those of Postfix."""

import ssl
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from attrs import evolve
from milter_program import Answers, MilterProgram, Recorded, milter_program
from postfix_twin import CASES, certificates, dialogue, postfix_twin, serve_dialogue
from tls_facts import info

from triosmtp.filters.milter_macros import MACROS, MacroContext
from triosmtp.filters.milter_session import USUAL_MACROS
from triosmtp.policy import Authenticated, Session
from triosmtp.smtp import Address
from triosmtp.variables import TLSInfo

OWN = {
    "{daemon_port}",
    "{client_addr}",
    "{client_name}",
    "{client_port}",
    "{client_ptr}",
    "{client_resolve}",
    "{verify}",
}
IDS = {"i", "v", "j", "{daemon_name}", "{mail_mailer}", "{rcpt_mailer}"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def recorded_postfix(site: Path) -> Iterator[tuple[int, MilterProgram]]:
    """Run a Postfix; yield its port and its milter."""
    with (
        milter_program() as milter,
        postfix_twin(site, [f"smtpd_milters = inet:127.0.0.1:{milter.port}", "local_header_rewrite_clients ="]) as port,
    ):
        yield port, milter


async def ours(
    site: Path, case: tuple[str | None, ssl.TLSVersion | None, bool], answers: Answers | None = None
) -> Recorded:
    certificate, version, auth = case
    with milter_program(answers) as milter:
        await serve_dialogue(site, f'Policy = ( "{milter.address}" )', certificate, version, auth=auth)
        return milter.last


@pytest.mark.parametrize(("certificate", "version", "auth"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
async def test_steps_and_macros_are_those_of_postfix(
    site: Path,
    recorded_postfix: tuple[int, MilterProgram],
    certificate: str | None,
    version: ssl.TLSVersion | None,
    auth: bool,
) -> None:
    found = await ours(site, (certificate, version, auth))
    port, milter = recorded_postfix
    milter.sessions.clear()
    await trio.to_thread.run_sync(partial(dialogue, port, site, certificate, version, auth=auth))
    await trio.to_thread.run_sync(milter.wait_for, lambda: "E" in milter.last.commands)
    theirs = milter.last
    assert theirs.frames[0] == found.frames[0]  # the negotiation
    wanted, own = [_comparable(each) for each in (theirs, found)]
    assert [step for step, _, _ in own] == [step for step, _, _ in wanted]
    for (step, macros, data), (_, own_macros, own_data) in zip(wanted, own, strict=True):
        common = [name for name in own_macros if name not in OWN]
        # Postfix has no id before it has accepted a recipient, triosmtp from the first one on.
        assert ("i" in own_macros) is (step in "RTLNBE")
        assert [name for name in common if name != "i"] == [name for name in macros if name != "i"], step
        assert {name: own_macros[name] for name in common if name not in IDS} == {
            name: macros[name] for name in common if name not in IDS
        }
        assert own_data == data


def _comparable(recorded: Recorded) -> list[tuple[str, dict[str, str], bytes]]:
    """Return steps with their macros and data.  Postfix writes domains in lower case in the macros of RCPT alone."""
    macros, found = iter(recorded.macros()), []
    for code, data in recorded.frames:
        if code in "CHMRTLNBE":
            values = next(macros)[1]
            if code == "L" and data.split(b"\0")[0] in {b"Message-Id", b"From"}:
                continue  # Postfix adds them
            values = {name: value.lower() if name == "{rcpt_addr}" else value for name, value in values.items()}
            found.append((code, values, data.partition(b"4")[0] if code == "C" else data))  # the port differs
    return found


async def test_what_a_milter_said_of_the_greeting_in_plaintext_is_forgotten(site: Path) -> None:
    found = await ours(
        site, ("good", ssl.TLSVersion.TLSv1_3, False), lambda code, _: (b"a",) if code == "H" else (b"c",)
    )
    assert found.commands.rstrip("Q") == "OCHH"  # accepted twice; the second time for the session
    answers = iter((b"a", b"c"))
    found = await ours(
        site, ("good", ssl.TLSVersion.TLSv1_3, False), lambda code, _: (next(answers),) if code == "H" else (b"c",)
    )
    assert found.commands.rstrip("Q") == "OCHHMRRTLLNBE"


def context(session: Session, **more: object) -> MacroContext:
    return MacroContext(session, "mx.test", lambda address: address.domain == "example.com", **more)  # type: ignore[arg-type]


def session_of(tls: TLSInfo | None = None, peer: str = "192.0.2.1:77") -> Session:
    address = ip_address(peer.rpartition(":")[0].strip("[]")) if ":" in peer else None
    return Session(id="1", listener=":25", peer=peer, peer_address=address, local="192.0.2.2:25", tls=tls)


VERIFIED = evolve(info(), client_subject_cn="Good", client_issuer_cn="CA", client_certificate=b"DER")


@pytest.mark.parametrize(
    ("tls", "verify", "subject"),
    [
        (None, "NONE", None),
        (
            evolve(VERIFIED, verified=False, client_certificate=None, verify_error="no certificate presented"),
            "NO",
            None,
        ),
        (evolve(VERIFIED, verified=False, verify_error="self-signed certificate"), "FAIL", None),
        (VERIFIED, "OK", "Good"),
    ],
)
def test_a_certificate_has_its_result_and_its_names_only_if_it_is_verified(
    tls: TLSInfo | None, verify: str, subject: str | None
) -> None:
    macro = context(session_of(tls)).macro
    assert (macro("{verify}"), macro("{cert_subject}")) == (verify, subject)
    assert macro("{auth_authen}") is macro("{auth_type}") is macro("{auth_author}") is None


def test_the_user_is_that_of_auth_alone() -> None:
    session = session_of(VERIFIED)
    session.auth = Authenticated("PLAIN", "mary")
    macro = context(session, sasl_sender="m@example.org").macro
    assert [macro(name) for name in ("{auth_type}", "{auth_authen}", "{auth_author}")] == [
        "PLAIN", "mary", "m@example.org",
    ]  # fmt: skip
    session.is_proxied = True
    assert context(session).macro("{cert_subject}") is None
    assert context(session).macro("{verify}") == "NO"
    assert context(session, sasl_sender="<>").macro("{auth_author}") is None


@pytest.mark.parametrize(
    ("peer", "values"),
    [
        ("192.0.2.1:77", ("192.0.2.1", "77", "unknown [192.0.2.1]")),
        ("[2001:db8::1]:77", ("IPv6:2001:db8::1", "77", "unknown [2001:db8::1]")),
        ("unix", ("unknown", None, "unknown [unknown]")),
    ],
)
def test_the_client_has_its_address(peer: str, values: tuple[str | None, ...]) -> None:
    macro = context(session_of(peer=peer)).macro
    assert (macro("{client_addr}"), macro("{client_port}"), macro("_")) == values
    assert (macro("{client_resolve}"), macro("{daemon_addr}"), macro("{daemon_port}")) == ("FAIL", "192.0.2.2", "25")


@pytest.mark.parametrize(
    ("name", "reverse", "values"),
    [
        ("", "", ("unknown", "unknown", "FAIL", "unknown [192.0.2.1]")),
        ("a.example", "a.example", ("a.example", "a.example", "OK", "a.example [192.0.2.1]")),
        ("", "a.example", ("unknown", "a.example", "FORGED", "a.example [192.0.2.1] (may be forged)")),
    ],
)
def test_a_name_that_is_not_confirmed_is_said_to_be_forged(name: str, reverse: str, values: tuple[str, ...]) -> None:
    session = session_of()
    session.variables.record({"client_name": name, "reverse_client_name": reverse})
    macro = context(session).macro
    assert tuple(macro(f"{{{each}}}") for each in ("client_name", "client_ptr", "client_resolve", "_")) == values


def test_addresses_have_a_host_and_a_mailer() -> None:
    sender, local, elsewhere = Address("a b", "example.org"), Address("x", "example.com"), Address("y", "else.example")
    macro = context(session_of(), sender=sender, recipient=local).macro
    assert [macro(f"{{mail_{name}}}") for name in ("addr", "host", "mailer")] == [
        '"a b"@example.org',
        "example.org",
        "smtp",
    ]
    assert [macro(f"{{rcpt_{name}}}") for name in ("addr", "host", "mailer")] == [
        "x@example.com",
        "example.com",
        "relay",
    ]
    macro = context(session_of(), sender=Address.NULL, recipient=elsewhere).macro
    assert [macro(f"{{mail_{name}}}") for name in ("addr", "host")] == ["", "mx.test"]
    assert macro("{rcpt_mailer}") == "smtp"
    assert context(session_of()).macro("{rcpt_addr}") is context(session_of()).macro("{mail_addr}") is None


def test_names_are_those_with_and_without_braces_and_none_is_unknown() -> None:
    macro = context(session_of(), message_id="1-1").macro
    assert macro("i") == macro("{i}") == "1-1"
    assert macro("j") == "mx.test"
    assert str(macro("v")).startswith("triosmtp ")
    assert macro("{nothing}") is macro("") is macro("{") is None
    assert {name.strip("{}") for stage in USUAL_MACROS for name in stage} == set(MACROS)
