"""Authentication-Results: true results are written, and forged fields are removed."""

import io
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from triosmtp.errors import Reject
from triosmtp.event import TLSEstablished
from triosmtp.message.spool import Body, Spool
from triosmtp.policy import Authenticated, Policy
from triosmtp.server.session.authentication_results import _copy, is_forged, results_field, without_forged
from triosmtp.testing import Authority, open_memory_server
from triosmtp.variables import TLSInfo

HOST = "mx.example.com"
TLS = TLSInfo(protocol="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", cipher_algbits=128, cipher_usebits=128)
SHOWN = evolve(
    TLS,
    verified=True,
    client_certificate=b"der",
    client_subject='CN=Müller "x"\\,O=a; spf=pass',
    client_fingerprint_sha256="ab" * 32,
)


def unfolded(header: bytes) -> str:
    assert header.endswith(b"\r\n")
    assert all(len(line) <= 998 and not re.search(rb"[\x00-\x08\n\r]", line) for line in header[:-2].split(b"\r\n"))
    assert all(line[:1] == b" " for line in header[:-2].split(b"\r\n")[1:])
    return header.decode("utf-8").replace("\r\n", "")


def test_there_is_no_field_without_a_result() -> None:
    assert results_field(HOST, None, None) == b""
    assert results_field(HOST, None, TLS) == b""


def test_auth_and_certificate_are_in_the_field() -> None:
    auth = Authenticated("SCRAM-SHA-256", "jo@example.com")
    field = unfolded(results_field(HOST, auth, SHOWN))
    assert field == (
        "Authentication-Results: mx.example.com; auth=pass (scram-sha-256) smtp.auth=jo@example.com; "
        rf'x-client-cert=pass policy.subject="CN=M?ller \"x\"\\,O=a; spf=pass" policy.sha256={"ab" * 32}'
    )
    assert "Müller" in unfolded(results_field(HOST, auth, SHOWN, utf8=True))


def test_a_certificate_that_did_not_verify_fails_with_its_reason() -> None:
    tls = evolve(SHOWN, verified=False, verify_error="certificate has expired", client_subject="CN=x")
    assert 'x-client-cert=fail reason="certificate has expired" policy.subject="CN=x"' in unfolded(
        results_field(HOST, None, tls)
    )


@given(st.text(max_size=400), st.text(max_size=400), st.booleans())
def test_no_name_breaks_out_of_its_value(user: str, subject: str, utf8: bool) -> None:
    field = unfolded(
        results_field(HOST, Authenticated("PLAIN", user), evolve(SHOWN, client_subject=subject), utf8=utf8)
    )
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "Q", field)
    assert outside.count(";") == 2
    assert '"' not in outside
    assert outside.count("=pass") == 2


FORGED = (
    "Authentication-Results: mx.example.com; auth=pass",
    "AUTHENTICATION-RESULTS : MX.Example.COM; dkim=pass",
    "Authentication-Results:mx.example.com 1; none",
    "Authentication-Results:\r\n\tmx.example.com;\r\n\tspf=pass",
    "Authentication-Results: (a (nested\\) ) comment) mx.example.com; none",
    'Authentication-Results: "mx.example.com"; none',
    'Authentication-Results: "mx\\.example.com"; none',
    "Authentication-Results: mx.example.com.; none",
    "Authentication-Results: <mx.example.com>; none",
    "Authentication-Results: (mx.example.com",
    "Authentication-Results: mx.example.com;" + " x" * 40000,
    "Authentication-Results: other;\r\n" + " x\r\n" * 30000 + " y",
    # comments, folding, quotes and escapes within the name
    "Authentication-Results: mx.(c)example.com; none",
    "Authentication-Results: mx(c).example.com; none",
    "Authentication-Results: m(c)x.example.com; none",
    "Authentication-Results: mx (a (b) \\) c) . example . com 1; none",
    "Authentication-Results: mx.\r\n example.\r\n\tcom; none",
    'Authentication-Results: "mx".example."com"; none',
    'Authentication-Results: "mx." "example.com"; none',
    'Authentication-Results: " mx.example.com "; none',
    'Authentication-Results: "mx.(c)example.com"; none',
    'Authentication-Results: "mx.example.com; x"; none',
    "Authentication-Results: mx\\.example.com; none",
    "Authentication-Results: mx.\x00example.com; none",
    "Authentication-Results: mx.\x0bexample.com; none",
    "Authentication-Results: mx.example.com.(c); none",
    # versions
    "Authentication-Results: mx.example.com 1; none",
    "Authentication-Results: mx.example.com(c)1; none",
    "Authentication-Results: mx.example.com/1; none",
    "Authentication-Results: mx.example.com",
    "Authentication-Results: mx.example.com;",
    # encoded forms
    "Authentication-Results: =?utf-8?q?mx=2Eexample=2Ecom?=; none",
    "Authentication-Results: =?utf-8?b?bXguZXhhbXBsZS5jb20=?=; none",
    "Authentication-Results: mx.=?us-ascii?q?example.com?=; none",
    "Authentication-Results: (c) =?utf-7?q?mx?=.example.com; none",
    "Authentication-Results: mx.exam\u00adple.com; none",
    "Authentication-Results: \uff4dx.example.com; none",
    # what cannot be understood
    "Authentication-Results: ,mx.(c)example.com; none",
    "Authentication-Results: x@mx.example.com; none",
    'Authentication-Results: "mx.example.com',
    "Authentication-Results: x (mx.exam(c)ple.com",
    "Authentication-Results: " + "((a) b)" * 100 + " other; none",
    "Authentication-Results: " + "(" * 1000 + ")" * 1000 + "mx.example.com; none",
    "Authentication-Results: a b c d e f g h i j k l m n o p q mx.example.com; none",
    # the field's own name
    "Authentication-Results \t : mx.example.com; none",
    "Authentication-Results\r\n : mx.example.com; none",
    "aUTHENTICATION-rESULTS:mX.eXAMPLE.cOM;none",
)
HONEST = (
    "Authentication-Results: mx.example.org; auth=pass",
    "Authentication-Results: other.example; x=mx.example.com",
    "Authentication-Results: notmx.example.com; none",
    "Authentication-Results: spf=pass smtp.mailfrom=mx.example.com",
    "Authentication-Results: (mx.example.com) other.example; none",
    "ARC-Authentication-Results: i=1; mx.example.com; none",
    "X-Authentication-Results: mx.example.com",
    "Subject: Authentication-Results: mx.example.com",
    "Comments: x\r\n Authentication-Results: mx.example.com",
    "Authentication-Results-Original: mx.example.com; none",
    "Authentication-Results",
    "Authentication-Results mx.example.com; none",
    "Authentication-Results: mx.example.comm; none",
    "Authentication-Results: mx.example.com.other.example; none",
    "Authentication-Results: mx1.example.com 1; none",
    "Authentication-Results: mx.example (.com) ; none",
    "Authentication-Results: b\u00fccher.example; none",
    'Authentication-Results: "other.example" 1; x=y (mx.example.com)',
    "Authentication-Results: i=1; mx.example.com; none",
    "Authentication-Results: " + "(a b)" * 1000 + " other; none",
    "Authentication-Results: ; none",
    "Authentication-Results:",
    "X: " + "y" * 100_000,
    "Authentication-Results-Original: " + "y" * 100_000,
)
BODY = b"\r\nAuthentication-Results: mx.example.com; in the body\r\n"


def copied(message: bytes) -> tuple[bool, bytes]:
    source, target = io.BytesIO(message), io.BytesIO()
    removed = _copy(HOST, source, target)
    return removed, target.getvalue()


@pytest.mark.parametrize("field", FORGED)
@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_only_a_forged_field_is_removed(field: str, newline: str) -> None:
    before, behind = b"From: a\r\nX: y\r\n z\r\n", b"To: b\r\n"
    raw = field.replace("\r\n", newline).encode() + newline.encode()
    for message, left in (
        (before + raw + behind + BODY, before + behind + BODY),
        (raw + raw + BODY, BODY),
        (before + raw, before),
        (before + raw[: -len(newline)], before),
    ):
        assert copied(message) == (True, left)


@pytest.mark.parametrize("field", HONEST)
def test_an_honest_field_stays(field: str) -> None:
    message = b"From: a\r\n" + field.encode() + b"\r\nTo: b\r\n" + BODY
    removed, _ = copied(message)
    assert not removed
    assert copied(b"Authentication-Results: mx.example.com\r\n" + message) == (True, message)


@settings(max_examples=400)
@given(
    st.lists(
        st.sampled_from([
            *[each for each in (*FORGED, *HONEST) if len(each) < 200], "A: b", " c", "", "\t", "Authentication-Results",
            "\r",
        ]), max_size=8
    ),
    st.lists(st.sampled_from(["\r\n", "\n", "\r"]), min_size=8, max_size=8),
)  # fmt: skip
def test_the_remaining_header_has_no_forged_field(lines: list[str], ends: list[str]) -> None:
    for message in ("\r\n".join(lines).encode(), "".join(map("".join, zip(lines, ends, strict=False))).encode()):
        removed, left = copied(message)
        assert (len(left) < len(message)) >= removed
        assert copied(left)[0] is False or not removed
        assert not any(map(names_us, fields_for_every_reader(left if removed else message)))


def fields_for_every_reader(message: bytes) -> list[str]:
    """Return the fields of a header, for readers to whom a lone CR ends a line and for those to whom it does not."""
    fields = []
    for line_end in (r"\r\n|\n", r"\r\n|\n|\r"):
        unfolded: list[str] = []
        for line in re.split(line_end, message.decode()):
            if not line:
                break
            if line[0] in " \t" and unfolded:
                unfolded[-1] += line
            else:
                unfolded.append(line)
        fields += unfolded
    return fields


def names_us(field: str) -> bool:
    """Read the name as a simple reader does: without comments and quotes, up to the first ; or blank."""
    name, colon, value = field.partition(":")
    value = re.sub(r"\([^()]*\)", "", value).replace('"', "").strip()
    return (
        bool(colon)
        and name.rstrip().lower() == "authentication-results"
        and re.split("[ \t;]", value.lower())[0] == HOST
    )


@settings(max_examples=400)
@given(
    st.lists(
        st.sampled_from(["", " ", "\t", "(c)", "((a)b)", "(\\()", "\r\n ", '" "', "\\", "\x00"]),
        min_size=14,
        max_size=14,
    ),
    st.sampled_from(["", " 1", "(c) 1", " ; none", ";none", "/1", ".", ".;"]),
)
def test_no_disguise_helps(between: list[str], behind: str) -> None:
    name = "".join(map("".join, zip(HOST.upper(), between, strict=True)))
    message = f"A: b\r\nAuthentication-Results: {name}{behind}\r\nB: c\r\n\r\n".encode()
    assert copied(message) == (True, b"A: b\r\nB: c\r\n\r\n")


@given(st.lists(st.sampled_from([*FORGED[:10], *FORGED[12:], *HONEST[:20], "A: b", "", " c"]), max_size=6),
       st.integers(1, 90), st.lists(st.sampled_from(["\r\n", "\n", "\r"]), min_size=6, max_size=6))  # fmt: skip
def test_where_the_pieces_end_makes_no_difference(lines: list[str], size: int, ends: list[str]) -> None:
    lines = [line for line in lines if len(line) < 1000]
    message = "".join(map("".join, zip(lines, ends, strict=False))).encode()
    whole = copied(message)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triosmtp.server.session.authentication_results._PIECE", size)
        pieces = copied(message)
    assert pieces == whole if whole[0] else not pieces[0]


@pytest.mark.parametrize(
    ("header", "left"),
    [
        (b"S: x\rAuthentication-Results: mx.example.com; pass\r\nTo: b\r\n", b"S: x\r\nTo: b\r\n"),
        (b"S: x\rAuthentication-Results: mx.example.com; pass\nTo: b\r\n", b"S: x\r\nTo: b\r\n"),
        (b"S: x\rAuthentication-Results: mx.example.com;\r\n dkim=pass\r\nTo: b\r\n", b"S: x\r\nTo: b\r\n"),
        (b"\rAuthentication-Results: mx.example.com; pass\r\nTo: b\r\n", b"\r \r\nTo: b\r\n"),
        (b"S: x\r\n\rAuthentication-Results: mx.example.com; pass\r\nTo: b\r\n", b"S: x\r\n\r \r\nTo: b\r\n"),
        (b"Authentication-Results:\rmx.example.com; pass\r\nTo: b\r\n", b"To: b\r\n"),
        (b"Authentication-Results: o.example; x\rAuthentication-Results: mx.example.com; pass\r\nTo: b\r\n",
         b"Authentication-Results: o.example; x\r\nTo: b\r\n"),
        (b"S: x\rAuthentication-Results: o.example; x\rT: y\r\n", None),
        (b"S: x\r Authentication-Results: mx.example.com; pass\r\n", None),
        (b"S: x\r\r\nAuthentication-Results: mx.example.com; pass\r\nTo: b\r\n", b"S: x\r\r\nTo: b\r\n"),
    ],
)  # fmt: skip
def test_a_lone_cr_hides_nothing(header: bytes, left: bytes | None) -> None:
    removed, copy = copied(header + BODY)
    assert removed is (left is not None)
    if left is not None:
        assert copy == left + BODY


def test_our_name_in_u_labels_is_ours() -> None:
    host = "mx.xn--bcher-kva.example"
    for name in (
        "mx.b\u00fccher.example",
        "MX.B\u00dcCHER.example",
        "mx.b\u00fccher.(c)example 1",
        "mx.XN--bcher-kva.example",
    ):
        assert is_forged(f"Authentication-Results: {name}; none\r\n".encode(), host)
    for name in ("mx.bucher.example", "mx.b\u00fccher.example.org", "mx.xn--other.example", "mail.b\u00fccher.example"):
        assert not is_forged(f"Authentication-Results: {name}; none\r\n".encode(), host)


def test_a_malformed_field_is_judged_by_the_names_in_it() -> None:
    assert is_forged(b"Authentication-Results: ;mx.example.com\r\n", HOST)
    assert not is_forged(b"Authentication-Results: ;other.example\r\n", HOST)


async def spooled(message: bytes, folder: Path) -> Body:
    spool = Spool(folder)
    for start in range(0, len(message), 200_000):
        spool.add(message[start : start + 200_000])
        if spool.due:
            await spool.flush()
    return await spool.finish()


@pytest.mark.parametrize("filler", [10, 70_000, 3_000_000])
@pytest.mark.parametrize("tail", [10, 3_000_000])
async def test_big_headers_and_big_bodies_can_be_read_again(filler: int, tail: int, tmp_path: Path) -> None:
    header = b"".join(b"X-%d: %s\r\n" % (i, b"y" * 60) for i in range(filler // 70 + 1))
    forged = b"Authentication-Results: mx.example.com; auth=pass\r\n"
    rest = b"To: b\r\n\r\n" + b"z" * tail
    body = await without_forged(await spooled(header + forged + rest, tmp_path), HOST, tmp_path)
    expected = header + rest
    assert body.size == len(expected)
    assert body.head == expected[:65536]
    for _ in range(2):
        with body.open() as reader:
            assert reader.read() == expected
        assert b"".join([chunk async for chunk in body.chunks()]) == expected
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - its files have no names; Path.iterdir blocks, says ASYNC240
    body.close()
    untouched = await spooled(expected, tmp_path)
    assert await without_forged(untouched, HOST, tmp_path) is untouched
    untouched.close()


def test_a_million_lines_take_their_time_once() -> None:
    pieces = b"Authentication-Results: other;\r\n" + b" x\r\n" * 500_000
    began = perf_counter()
    assert copied(pieces)[0]
    assert perf_counter() - began < 10  # and not the square of it


CONF = """
Relay_Domains = ( "example.com" )
Banner_Hostname = "mx.example.com"
TLS_Certificate = "{folder}/server.pem"
TLS_Key = "{folder}/server.key"
TLS_Client_CA = "{folder}/ca.pem"
SMTP_Extensions = ( STARTTLS {more} )
ESMTP_Listener {{ Listen ":25" {{ {options}
  Peer "192.0.2.1" {{ SMTP_Extensions = ( STARTTLS XCLIENT XREMOTEIP {more} ) }} }} }}
"""
MESSAGE = (
    b"Authentication-Results: mx.example.com; auth=pass\r\nAuthentication-Results: o.example; none\r\nS: x\r\n\r\n"
)


@pytest.fixture
def conf(tmp_path: Path) -> Callable[..., str]:
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(tmp_path, "server")
    authority.issue("client.example.org").write(tmp_path, "client")
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    return lambda options, extensions="": CONF.format(folder=tmp_path, options=options, more=extensions)


async def test_the_field_of_a_session_names_its_certificate_and_ignores_headers(
    conf: Callable[..., str], tmp_path: Path
) -> None:
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    async with open_memory_server(conf("")) as server:
        client = server.connect(peer="192.0.2.9")
        await client.read()
        await client.command("EHLO x")
        await client.starttls(context)
        await client.command("EHLO x")
        assert (await client.message("a@example.org", ["b@example.com"], MESSAGE)).code == 250
    [message] = server.messages
    assert message.trace.startswith(b"Authentication-Results: mx.example.com;")
    assert b"x-client-cert=pass" in message.trace
    assert b"CN=client.example.org" in message.trace
    assert message.body == MESSAGE.partition(b"\r\n")[2]


async def test_the_certificate_of_a_proxy_is_not_that_of_its_client(conf: Callable[..., str], tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    external = 'TLS_Verified_Peer_Can_Relay = true AuthExternalParameters = [ map = "subject_cn" ]'
    for command, asked in (("XCLIENT ADDR=203.0.113.9", True), ("XREMOTEIP 203.0.113.9", True), ("NOOP", False)):
        async with open_memory_server(conf(external, '"AUTH EXTERNAL"')) as server:
            client = server.connect(peer="192.0.2.1")
            await client.read()
            await client.command("EHLO x")
            await client.starttls(context)
            offered = await client.command("EHLO x")
            assert "AUTH EXTERNAL" in offered.lines
            assert (await client.command(command)).code in {220, 250}
            assert ("AUTH EXTERNAL" in (await client.command("EHLO x")).lines) is not asked
            relayed = await client.message("a@example.org", ["b@elsewhere.example"], MESSAGE)
            assert relayed.code == (550 if asked else 250)
            await client.command("RSET")
            assert (await client.message("a@example.org", ["b@example.com"], MESSAGE)).code == 250
            assert (b"x-client-cert" in server.messages[-1].trace) is not asked
            unfolded = server.messages[-1].trace.replace(b"\r\n", b"")
            assert b'(client certificate CN "client.example.org" verified)' in unfolded, "of the connection it is true"


@pytest.mark.parametrize("command", ["XCLIENT ADDR=203.0.113.9", "XREMOTEIP 203.0.113.9", "NOOP"])
@pytest.mark.parametrize("first", [True, False], ids=["before TLS", "within TLS"])
async def test_no_policy_takes_a_spokesmans_certificate_for_the_clients(
    conf: Callable[..., str], tmp_path: Path, first: bool, command: str
) -> None:
    class Demanding(Policy):
        async def validate_mailfrom(self, session, sender, parameters):  # type: ignore[no-untyped-def]  # as in the base
            seen.append({key: value for key, value in session.variables.items() if "cert" in key})
            if not (session.tls.verified and session.variables["tls_client_verified"] == "yes"):
                errors = session.tls.verify_error, session.variables["tls_client_verify_error"]
                raise Reject(550, "5.7.1", ": ".join(errors))

    seen: list[dict[str, str]] = []
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    async with open_memory_server(conf(""), policy=Demanding()) as server:
        client = server.connect(peer="192.0.2.1")
        await client.read()
        await client.command("EHLO x")
        if first:
            assert (await client.command(command)).code in {220, 250}
            await client.command("EHLO x")
        assert (await client.starttls(context)).code == 220
        await client.command("EHLO x")
        if not first:
            assert (await client.command(command)).code in {220, 250}
            await client.command("EHLO x")
        answer = str(await client.command("MAIL FROM:<a@example.org>"))
    [told] = [event.tls for event in server.events if isinstance(event, TLSEstablished)]
    assert told.verified is (command == "NOOP" or not first), "the event has the name of the client"
    if command == "NOOP":
        assert answer.startswith("250")
        assert any("CN=client.example.org" in value for value in seen[0].values())
    else:
        assert answer == "550 the peer speaks for another client: the peer speaks for another client"
        assert seen == [{}]


async def test_the_field_of_a_session_names_its_login(conf: Callable[..., str]) -> None:
    async with open_memory_server(conf("")) as server:
        client = server.connect(peer="192.0.2.1")
        await client.read()
        assert (await client.command("XCLIENT LOGIN=jo PROTO=ESMTP HELO=x ADDR=192.0.2.1")).code == 220
        assert (await client.message("a@example.org", ["b@elsewhere.example"], MESSAGE)).code == 250
    trace = server.messages[0].trace
    assert trace.startswith(b"Authentication-Results: mx.example.com; auth=pass (xclient) smtp.auth=jo\r\nReceived: ")


async def test_a_forged_field_after_a_lone_cr_is_removed_in_a_session(conf: Callable[..., str]) -> None:
    body = b"S: x\rAuthentication-Results: mx.(c)example.com; auth=pass\r\nTo: b\r\n\r\nend\r\n"
    for mode, arrived in (("ignore", b"S: x\r\nTo: b\r\n\r\nend\r\n"), ("fix", b"S: x\r\nTo: b\r\n\r\nend\r\n")):
        async with open_memory_server(conf(f"RFC2822_Lone_LF_In_Headers = {mode}")) as server:
            client = server.connect(peer="192.0.2.9")
            await client.read()
            await client.command("EHLO x")
            assert (await client.message("a@example.org", ["b@example.com"], body)).code == 250
        assert server.messages[0].body == arrived


async def test_it_can_be_turned_off(conf: Callable[..., str]) -> None:
    async with open_memory_server(conf("Authentication_Results = false")) as server:
        client = server.connect(peer="192.0.2.1")
        await client.read()
        assert (await client.command("XCLIENT LOGIN=jo")).code == 220
        assert (await client.message("a@example.org", ["b@example.com"], MESSAGE)).code == 250
    assert b"Authentication-Results" not in server.messages[0].trace
    assert server.messages[0].body == MESSAGE
