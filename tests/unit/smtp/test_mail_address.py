"""The path grammar: what is an address, and what only looks like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.smtp import Address, PathError, PathProblem, domain_key, parse_path

LONG_LOCAL_PART = "x" * 64
LONG_DOMAIN = ".".join(["d" * 63, "d" * 63, "d" * 63, "d" * 63])  # 255 octets
FORWARDED = "jane.doe+caf_=intake_3f1c7a52-0d7e-4b8e-9c21-5a6f0e4d9b77=mail.case.test"  # 72 octets


def parse(path: str, *, utf8: bool = False, forward: bool = False, unqualified: str | None = None) -> Address:
    return parse_path(path.encode(), utf8=utf8, forward=forward, unqualified=unqualified)


@pytest.mark.parametrize(
    ("path", "local_part", "domain"),
    [
        ("<a@b>", "a", "b"),
        ("<first.last@sub.example.org>", "first.last", "sub.example.org"),
        ("<!#$%&'*+-/=?^_`{|}~@example.org>", "!#$%&'*+-/=?^_`{|}~", "example.org"),
        ("<user+tag=x@EXAMPLE.org>", "user+tag=x", "EXAMPLE.org"),
        ("<1@2.3>", "1", "2.3"),
        ("<a@x--y.example>", "a", "x--y.example"),
        ("<a@xn--bcher-kva.example>", "a", "xn--bcher-kva.example"),
        (f"<{LONG_LOCAL_PART}@example.org>", LONG_LOCAL_PART, "example.org"),
        (f"<{'x' * 62}@{LONG_DOMAIN}>", "x" * 62, LONG_DOMAIN),
        (f"<{FORWARDED}@gmail.test>", FORWARDED, "gmail.test"),
        (f"<{'x' * 1900}@b>", "x" * 1900, "b"),
        (f'<"{"x " * 900}"@b>', "x " * 900, "b"),
        (f"<@{'d.' * 120}d:{'x' * 200}@b>", "x" * 200, "b"),
        ("<abc..d.@x.example>", "abc..d.", "x.example"),
        ("<a.@b>", "a.", "b"),
        ("<a..b@c>", "a..b", "c"),
        ('<"a..b"@c>', "a..b", "c"),
        ("<a@b_c>", "a", "b_c"),
        ("<a@_dmarc.example.org>", "a", "_dmarc.example.org"),
        ("<@a_b:c@d>", "c", "d"),
        ('<"a b"@example.org>', "a b", "example.org"),
        ('<"a@b>c"@example.org>', "a@b>c", "example.org"),
        (r'<"a\"b\\c\d"@example.org>', r'a"b\cd', "example.org"),
        ('<"plain"@example.org>', "plain", "example.org"),
        ('<"a..b."@example.org>', "a..b.", "example.org"),
        ('<""@example.org>', "", "example.org"),
        ("<a@[192.0.2.1]>", "a", "[192.0.2.1]"),
        ("<a@[IPv6:2001:db8::1]>", "a", "[IPv6:2001:db8::1]"),
        ("<a@[ipv6:::ffff:192.0.2.1]>", "a", "[ipv6:::ffff:192.0.2.1]"),
        ("<@relay.example:a@b>", "a", "b"),
        ("<@one.example,@two.example:a@b>", "a", "b"),
        ('<@one.example:"a:b"@c>', "a:b", "c"),
    ],
)
def test_good(path: str, local_part: str, domain: str) -> None:
    for forward in (False, True):
        assert parse(path, forward=forward) == Address(local_part, domain)


@pytest.mark.parametrize(
    "path",
    [
        "", "<", ">", "a@b", "<a@b", "a@b>", "<@>", "<@b>", "<a@>", "< a@b>", "<a @b>", "<a@ b>", "<a@b >", "<a@b c>",
        "<.a@b>", "<..@b>", "<.@b>", "<a@b@c>", "<a(c)@b>", "<a,b@c>", "<a;b@c>", "<a:b@c>", "<a\\b@c>", "<[a]@b>",
        '<"a@b>', '<"a"b@c>', '<a"b"@c>', '<"a".b@c>', '<"a\\"@b>', '<"a"b"@c>',
        "<a@.b>", "<a@b.>", "<a@b..c>", "<a@-b>", "<a@b->", "<a@b.-c>", "<a@b!c>", "<a@(b)>", "<a@b,c>",
        f"<a@{'d' * 64}>", "<a@192.0.2.1]>", "<a@[192.0.2.1>", "<a@[]>", "<a@[192.0.2]>", "<a@[192.0.2.256]>",
        "<a@[192.0.2.1.1]>", "<a@[2001:db8::1]>", "<a@[IPv6:192.0.2.1]>", "<a@[IPv6:2001:db8::g]>", "<a@[IPv6:]>",
        "<a@[IPv6:fe80::1%eth0]>", "<a@[x400:foo]>", "<a@[192.0.2.1]x>", "<a@x[192.0.2.1]>", "<a@[192.0.2.1]]>",
        "<@a>", "<@a:>", "<@a:b:c@d>", "<@a,b:c@d>", "<@a,:c@d>", "<@:c@d>", "<@[192.0.2.1]:c@d>",
        "<:a@b>",
        "<a\x7f@b>", '<"a\x7f"@b>', "<a\t@b>",
    ],
)  # fmt: skip
def test_bad(path: str) -> None:
    for forward in (False, True):
        with pytest.raises(PathError) as caught:
            parse(path, forward=forward, unqualified="example.org")
        assert caught.value.problem is PathProblem.SYNTAX


@pytest.mark.parametrize("path", [f"<a@{'d.' * 127}dd>", f"<a@{LONG_DOMAIN}d>", f"<@{'d.' * 127}dd:a@b>"])
def test_too_long(path: str) -> None:
    with pytest.raises(PathError) as caught:
        parse(path)
    assert caught.value.problem is PathProblem.LENGTH


def test_a_domain_of_u_labels_is_as_long_as_its_a_labels() -> None:
    label = "\u00fc" * 50
    assert len(domain_key(label)) < 63
    assert parse(f"<a@{label}.{label}>", utf8=True)
    with pytest.raises(PathError):
        parse(f"<a@{'.'.join([label] * 5)}>", utf8=True)


@pytest.mark.parametrize(
    ("path", "local_part", "domain"),
    [
        ("<j\u00fcrgen@example.org>", "j\u00fcrgen", "example.org"),
        ("<a@b\u00fccher.example>", "a", "b\u00fccher.example"),
        ("<\u7528\u6237@\u4f8b\u5b50.\u6d4b\u8bd5>", "\u7528\u6237", "\u4f8b\u5b50.\u6d4b\u8bd5"),
        ('<"j \u00fc"@B\u00dcCHER.example>', "j \u00fc", "B\u00dcCHER.example"),
        ("<\U0001f4e7@example.org>", "\U0001f4e7", "example.org"),
        ("<-~\u00a0\u00ff\u2013\u2027\u202a\U0010ffff@b>", "-~\u00a0\u00ff\u2013\u2027\u202a\U0010ffff", "b"),
        ("<@b\u00fccher.example:a@b>", "a", "b"),
    ],
)
def test_international(path: str, local_part: str, domain: str) -> None:
    assert parse(path, utf8=True) == Address(local_part, domain)
    with pytest.raises(PathError) as caught:
        parse(path, utf8=False)
    assert caught.value.problem is PathProblem.NON_ASCII


@pytest.mark.parametrize(
    "path",
    [
        "<a\u0085b@c>", "<a\u2028b@c>", '<"a\u2029"@c>', '<"a\\\u00fc"@c>',
        "<a@ex\u3002ample>", "<a@\u00fc..example>", "<a@\u00fc.>", "<a@-\u00fc>", "<a@\u00fc_x>", "<a@\u00fc\u200d>",
        "<a@\U0001f4e7.example>", "<a@\u00fc\uff20x>", "<a@xn--\u00fc>", "<a@[\u0661.2.3.4]>",
        "<a@" + 60 * "\u00fc" + ">",
        "<a@example.org.\u00ad>", "<a@exam\u00adple.org>", "<a@exam\u200bple.org>", "<a@\ufeffexample.org>",
        "<a@b\u00fccher\ufe0f.example>", "<a@ban\u212a.example>", "<a@\uff45xample.org>", "<a@example\uff0eorg>",
        "<a@b\u00fccher\u2060.example>", "<a@b\u00fccher\u180e.example>", "<@exam\u00adple.org:a@b>",
    ],
)  # fmt: skip
def test_not_international(path: str) -> None:
    with pytest.raises(PathError) as caught:
        parse(path, utf8=True)
    assert caught.value.problem is PathProblem.SYNTAX


def test_not_utf8() -> None:
    with pytest.raises(PathError, match="not UTF-8"):
        parse_path(b"<\xfc@example.org>", utf8=True)


class TestWithoutDomain:
    def test_null(self) -> None:
        assert parse("<>") is Address.NULL
        with pytest.raises(PathError):
            parse("<>", forward=True, unqualified="example.org")

    @pytest.mark.parametrize("name", ["postmaster", "Postmaster", "POSTMASTER"])
    def test_postmaster(self, name: str) -> None:
        for unqualified in (None, "example.org"):
            assert parse(f"<{name}>", forward=True, unqualified=unqualified) == Address(name, "")
        with pytest.raises(PathError) as caught:
            parse(f"<{name}>")
        assert caught.value.problem is PathProblem.UNQUALIFIED

    def test_unqualified(self) -> None:
        assert parse('<"a b">', unqualified="example.org") == Address("a b", "example.org")
        with pytest.raises(PathError) as caught:
            parse("<a>", forward=True)
        assert caught.value.problem is PathProblem.UNQUALIFIED

    def test_an_empty_local_part_is_not_the_null_path(self) -> None:
        with pytest.raises(PathError):
            parse('<"">')


def test_literals_may_be_refused() -> None:
    for path in (b"<a@[192.0.2.1]>", b"<a@[nonsense]>"):
        with pytest.raises(PathError) as caught:
            parse_path(path, utf8=False, allow_literal=False)
        assert caught.value.problem is PathProblem.LITERAL


class TestAddress:
    def test_only_the_null_path_is_false(self) -> None:
        assert not Address.NULL
        assert Address("", "") == Address.NULL
        assert Address("postmaster", "")
        assert Address("", "example.org")

    @pytest.mark.parametrize(
        ("address", "text"),
        [
            (Address.NULL, ""),
            (Address("postmaster", ""), "postmaster"),
            (Address("a.b", "example.org"), "a.b@example.org"),
            (Address("", "example.org"), '""@example.org'),
            (Address("a b", "example.org"), '"a b"@example.org'),
            (Address("a..b", "example.org"), '"a..b"@example.org'),
            (Address('a"\\', "example.org"), r'"a\"\\"@example.org'),
            (Address("\u00fc", "[192.0.2.1]"), "\u00fc@[192.0.2.1]"),
        ],
    )
    def test_text(self, address: Address, text: str) -> None:
        assert str(address) == text

    def test_domain_key(self) -> None:
        assert Address("a", "B\u00dcCHER.Example").domain_key == "xn--bcher-kva.example"
        assert Address("postmaster", "").domain_key == ""
        with pytest.raises(ValueError, match="malformed"):
            _ = Address("a", "not a domain").domain_key

    @pytest.mark.parametrize("text", ["a..b@c", "a.@c", '"a..b"@c', '"a."@c', "a.b@c", '"a b"@c', "\u00fc..@c"])
    def test_an_address_is_written_in_its_received_form(self, text: str) -> None:
        assert str(parse(f"<{text}>", utf8=True)) == text

    def test_the_form_makes_no_other_address(self) -> None:
        assert parse("<a..b@c>") == parse('<"a..b"@c>')
        assert len({parse("<a..b@c>"), parse('<"a..b"@c>')}) == 1
        assert str(parse('<"plain"@c>')) == "plain@c"

    def test_equality_is_of_the_fields(self) -> None:
        assert Address("a", "b") == Address("a", "b")
        assert Address("a", "b") != Address("a", "B")
        assert len({Address("a", "b"), Address("a", "b")}) == 1


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30), st.sampled_from(["b", "[192.0.2.1]"]))
def test_a_written_address_parses_as_the_same_address(local_part: str, domain: str) -> None:
    address = Address(local_part, domain)
    assert parse(f"<{address}>") == address


def test_a_domain_that_we_add_is_ascii_unless_smtputf8_was_asked_for() -> None:
    assert parse("<a>", unqualified="b\u00fccher.example").domain == "xn--bcher-kva.example"
    assert parse("<a>", unqualified="b\u00fccher.example", utf8=True).domain == "b\u00fccher.example"


@given(st.from_regex(r"[a-z.]{1,12}", fullmatch=True), st.booleans())
def test_dots_are_written_as_they_came(local_part: str, quoted: bool) -> None:
    wire = f'<"{local_part}"@b>' if quoted else f"<{local_part}@b>"
    if not quoted and local_part.startswith("."):
        return
    address = parse(wire)
    assert address == Address(local_part, "b")
    strict = not {"", " "} & set(local_part.split("."))
    assert str(address) == (f"{local_part}@b" if strict else wire[1:-1])
    assert parse(f"<{address}>") == address


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_path_error(text: str) -> None:
    for path in (f"<{text}>", f"<a@{text}>", f'<"{text}"@b>', f"<@{text}:a@b>"):
        try:
            address = parse_path(path.encode("utf-8", "surrogatepass"), utf8=True, forward=True)
        except PathError:
            continue
        assert parse(f"<{address}>", utf8=True, forward=True) == address
        assert address.domain_key.isascii()
        assert parse(f"<{address}>", utf8=True, forward=True).domain_key == address.domain_key
        if address.domain and not address.domain.startswith("["):
            assert parse(f"<x@{address.domain_key}>").domain_key == address.domain_key
