"""Certificates with mutations in the structure of their DER: tags, lengths, types of strings, fields twice or none."""

import random
from collections.abc import Iterator

from attrs import define
from rights_site import (
    ALTERNATIVE_NAME,
    BASIC,
    CLIENT_AUTH,
    EXTENDED_USAGE,
    assembled,
    distinguished_name,
    extension,
    public_key,
)

from triosmtp.x509.authority import IssuerKey
from triosmtp.x509.der import SEQUENCE, element, elements, sole_content

CONSTRUCTED = 0x20
STRINGS = (0x0C, 0x12, 0x13, 0x14, 0x16, 0x1A, 0x1C, 0x1E, 0x03, 0x05, 0x02, 0x30)
KINDS = (0x80, 0x81, 0x82, 0x83, 0x84, 0x86, 0x87, 0x88, 0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA6)


@define
class Node:
    tag: bytes
    content: "bytes | list[Node]"
    length: str = "shortest"

    def encoded(self) -> bytes:
        data = self.content if isinstance(self.content, bytes) else b"".join(each.encoded() for each in self.content)
        size = len(data)
        if self.length == "indefinite":
            return self.tag + b"\x80" + data + b"\x00\x00"
        if self.length == "long" or size > 0xFFFF:
            return self.tag + b"\x84" + size.to_bytes(4, "big") + data
        size += {"one more": 1, "one less": -1}.get(self.length, 0)
        return (
            self.tag + element(0x04, bytes(max(size, 0)))[1 : -size or None] + data if size > 0 else self.tag + b"\x00"
        )

    def walk(self) -> Iterator["Node"]:
        yield self
        if isinstance(self.content, list):
            for each in self.content:
                yield from each.walk()


def parsed(data: bytes) -> list[Node]:
    nodes = []
    for each in elements(data):
        content: bytes | list[Node] = each.content
        if each.tag & CONSTRUCTED:
            content = parsed(each.content)
        elif each.tag == 0x04:
            try:
                content = parsed(each.content)  # what an extension holds is DER, too
            except ValueError:
                content = each.content
        nodes.append(Node(bytes([each.tag]), content))
    return nodes


class Mutator:
    """Makes certificates for ``key``, signed by ``authority``, that try to show ``victim``'s key or names."""

    def __init__(self, dice: random.Random, authority: IssuerKey, key: IssuerKey, victim: IssuerKey) -> None:
        self.dice, self.authority, self.key, self.victim = dice, authority, key, public_key(victim)
        names = (
            element(0x82, b"client.example"), element(0x81, b"a@client.example"), element(0x87, b"\xc0\x00\x02\x01"),
            element(0x86, b"victim.example"), element(0x88, b"\x2a\x03"), element(0x82, b"mx.client.example"),
            element(0xA0, b"\x06\x03\x2a\x03\x04", element(0xA0, element(0x0C, b"victim.example"))),
            element(0xA4, distinguished_name(b"victim.example")),
        )  # fmt: skip
        subject = element(
            SEQUENCE,
            element(
                0x31,
                sole_content(distinguished_name(b"DE", 0x13), SEQUENCE)[2:].replace(b"\x55\x04\x03", b"\x55\x04\x06"),
            ),
            sole_content(distinguished_name("Müller & Söhne".encode("latin-1"), 0x14)),
            element(
                0x31,
                sole_content(sole_content(distinguished_name(b"client.example")), 0x31),
                element(SEQUENCE, b"\x06\x03\x2a\x03\x04", element(0x0C, b"victim.example")),
            ),
        )
        self.base = assembled(
            authority, key, subject=subject,
            extensions=(
                extension(BASIC, element(SEQUENCE), critical=True),
                extension(EXTENDED_USAGE, CLIENT_AUTH),
                extension(ALTERNATIVE_NAME, element(SEQUENCE, *names)),
                extension("2a0304", element(SEQUENCE, element(0x82, b"victim.example"))),
            ),
        )  # fmt: skip

    def certificate(self) -> bytes:
        """Return a certificate that was mutated, then signed, or rarely the other way."""
        whole = Node(b"\x30", parsed(sole_content(self.base)))
        assert isinstance(whole.content, list)
        part = whole.content[0]
        late = self.dice.random() < 0.1
        for _ in range(self.dice.choice((1, 1, 1, 2, 3))):
            self._mutate(whole if late else part)
        if late:
            return whole.encoded()
        return assembled(self.authority, self.key, part=part.encoded())

    def _mutate(self, root: Node) -> None:
        dice = self.dice
        node = dice.choice(list(root.walk()))
        match dice.randrange(11):
            case 0:
                number = node.tag[0] & 0x1F
                node.tag = bytes([node.tag[0] | 0x1F, *((0x80,) if dice.random() < 0.2 else ()), number])
            case 1:
                node.tag = bytes([dice.choice(STRINGS)])
            case 2:
                node.tag = bytes([dice.choice(KINDS)])
            case 3:
                node.length = dice.choice(("long", "indefinite", "long", "one more", "one less"))
            case 4 if isinstance(node.content, bytes) and node.content:
                octets = bytearray(node.content)
                octets[dice.randrange(len(octets))] = dice.choice((0, 0x80, 0xFF, 0x2C, 0x5C, dice.randrange(256)))
                node.content = bytes(octets)
            case 5 if isinstance(node.content, bytes) and len(node.content) > 1:
                middle = dice.randrange(1, len(node.content))  # a string in pieces
                pieces = (node.content[:middle], node.content[middle:])
                node.content = [Node(node.tag if node.tag[0] < 0x80 else b"\x04", piece) for piece in pieces]
                node.tag = bytes([node.tag[0] | CONSTRUCTED]) + node.tag[1:]
            case 6 if isinstance(node.content, list) and node.content:
                node.content.insert(dice.randrange(len(node.content) + 1), dice.choice(node.content))  # twice
            case 7 if isinstance(node.content, list) and node.content:
                del node.content[dice.randrange(len(node.content))]
            case 8 if isinstance(node.content, list):
                dice.shuffle(node.content)
            case 9:
                node.content = dice.choice((self.victim, b"victim.example", b"", b"\x30\x00", "ä".encode()))
            case _:
                node.content = [Node(node.tag, node.content, node.length)]
                node.tag, node.length = bytes([dice.choice((0x30, 0x31, 0xA3, 0x24))]), "shortest"
