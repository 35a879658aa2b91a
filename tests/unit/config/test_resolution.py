"""The value in force for a connection: the order of fallback, and Peer by the most specific CIDR block."""

from ipaddress import ip_address, ip_network
from random import Random

import pytest
from config_text import resolve_peer

from triosmtp.config import Config, parse_config

# Every level of momentum.md's order, the first to be asked first.
LEVELS = (
    "peer",
    "peer_wide",
    "listen",
    "listener_peer",
    "listener_peer_wide",
    "listener",
    "pathway",
    "group",
    "global",
)


def layered(present: tuple[str, ...]) -> Config:
    def value(level: str) -> str:
        return f"Max_Message_Size = {LEVELS.index(level) + 1}" if level in present else ""

    return parse_config(
        f"""
        {value("global")}
        Pathway_Group "g" {{ {value("group")}  Pathway "p" {{ {value("pathway")} }} }}
        ESMTP_Listener {{
          {value("listener")}
          Pathway = "p"
          Peer "10.0.0.0/8" {{ {value("listener_peer_wide")} }}
          Peer "10.1.0.0/16" {{ {value("listener_peer")} }}
          Listen ":25" {{
            {value("listen")}
            Peer "10.0.0.0/9" {{ {value("peer_wide")} }}
            Peer "10.1.2.3" {{ {value("peer")} }}
          }}
        }}
        """
    )


@pytest.mark.parametrize("count", range(len(LEVELS) + 1))
def test_the_first_level_that_sets_an_option_decides(count: int) -> None:
    present = LEVELS[count:]
    expected = count + 1 if present else 52428800
    assert resolve_peer(layered(present), ":25", "10.1.2.3").max_message_size == expected


def test_each_level_alone_is_reached() -> None:
    for index, level in enumerate(LEVELS):
        assert resolve_peer(layered((level,)), ":25", "10.1.2.3").max_message_size == index + 1


def test_other_peers_do_not_see_the_peer_levels() -> None:
    config = layered(LEVELS)
    assert resolve_peer(config, ":25", "192.0.2.1").max_message_size == 3
    assert resolve_peer(config, ":25", "10.2.0.1").max_message_size == 2
    assert resolve_peer(config, ":25").max_message_size == 3  # a Unix socket's peer has no address
    assert resolve_peer(config, ":25", "2001:db8::1").max_message_size == 3


def test_a_pathway_at_global_scope_has_no_group() -> None:
    text = 'Pathway "p" { Idle_Time = 5 } Idle_Time = 6 Pathway = "p" ESMTP_Listener { Listen ":25" { } }'
    assert resolve_peer(parse_config(text), ":25").idle_time == 5.0


def test_the_option_pathway_follows_the_same_order() -> None:
    config = parse_config(
        """
        Pathway "a" { Idle_Time = 1 }
        Pathway "b" { Idle_Time = 2 }
        Pathway = "a"
        ESMTP_Listener {
          Listen ":25" { Peer "10.0.0.0/8" { Pathway = "b" } }
          Listen ":26" { Idle_Time = 3 Peer "10.0.0.0/8" { Pathway = "b" } }
        }
        """
    )
    assert (resolve_peer(config, ":25").idle_time, resolve_peer(config, ":25", "10.0.0.1").idle_time) == (1.0, 2.0)
    assert (resolve_peer(config, ":25").pathway, resolve_peer(config, ":25", "10.0.0.1").pathway) == ("a", "b")
    assert resolve_peer(config, ":26", "10.0.0.1").idle_time == 3.0


def test_a_pathway_inside_a_pathway_has_no_effect_and_a_warning() -> None:
    config = parse_config(
        'Pathway "a" { Pathway = "b" } Pathway "b" { Idle_Time = 2 } Pathway = "a" ESMTP_Listener { Listen ":25" { } }'
    )
    assert resolve_peer(config, ":25").idle_time == 300.0
    assert [problem.message for problem in config.warnings] == ["Pathway has no effect in a Pathway"]


PEERS = """
ESMTP_Listener { Listen ":25" {
  Peer "0.0.0.0/0" { Max_Message_Size = 1 }
  Peer "192.0.2.0/24" { Max_Message_Size = 2 }
  Peer "192.0.2.7" { Max_Message_Size = 3 }
  Peer "::/0" { Max_Message_Size = 4 }
  Peer "2001:db8::/32" { Max_Message_Size = 5 }
  Peer "::ffff:203.0.113.0/120" { Max_Message_Size = 6 }
} }
"""


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("198.51.100.1", 1),
        ("192.0.2.1", 2),
        ("192.0.2.7", 3),
        ("::ffff:192.0.2.7", 3),
        ("2001:db9::1", 4),
        ("2001:db8::1", 5),
        ("203.0.113.9", 6),
        ("::ffff:203.0.113.9", 6),
        ("fe80::1%eth0", 4),
    ],
)
def test_the_most_specific_peer_comes_first(peer: str, expected: int) -> None:
    assert resolve_peer(parse_config(PEERS), ":25", peer).max_message_size == expected


def test_equal_networks_are_one_peer_however_they_are_written() -> None:
    config = parse_config(
        'ESMTP_Listener { Listen ":25" { Peer "10.0.0.1" { Idle_Time = 1 } Peer "10.0.0.1/32" { Idle_Time = 2 } } }'
    )
    assert resolve_peer(config, ":25", "10.0.0.1").idle_time == 2.0


def test_a_peer_with_host_bits_causes_a_warning_with_its_network() -> None:
    config = parse_config('ESMTP_Listener { Listen ":25" { Peer "10.1.2.3/8" { Idle_Time = 1 } } }')
    assert [problem.message for problem in config.warnings] == [
        "10.1.2.3/8 means 10.0.0.0/8: write that if it is meant"
    ]


def test_none_as_a_certificate_unsets_an_inherited_one() -> None:
    config = parse_config(
        """
        TLS_Certificate = "/cert.pem"
        SMTP_Extensions = ( STARTTLS )
        ESMTP_Listener { Listen ":25" { Peer "10.0.0.0/8" { TLS_Certificate = "none" } } }
        """
    )
    assert resolve_peer(config, ":25").offers_starttls
    assert resolve_peer(config, ":25", "10.0.0.1").tls_certificate == ()
    assert not resolve_peer(config, ":25", "10.0.0.1").offers_starttls


def test_equal_peer_blocks_give_the_same_object_and_variants_are_all_there_are() -> None:
    config = parse_config(PEERS)
    (listen,) = config.listens
    variants = config.variants(listen)
    assert len(variants) == 7
    assert variants[0] is config.resolve(listen, None)
    for peer in ("198.51.100.1", "192.0.2.1", "192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7"):
        found = config.resolve(listen, ip_address(peer))
        assert found is config.resolve(listen, ip_address(peer))
        assert any(found is variant for variant in variants)


def test_peer_look_up_agrees_with_a_plain_search() -> None:
    random = Random(7)
    networks = {
        ip_network((random.getrandbits(32) & 0xFF0000FF, random.randint(0, 32)), strict=False) for _ in range(60)
    }
    numbered = dict(enumerate(networks))
    blocks = "\n".join(f'Peer "{network}" {{ Max_Message_Size = {i} }}' for i, network in numbered.items())
    config = parse_config(f'ESMTP_Listener {{ Listen ":25" {{ {blocks} }} }}')
    for _ in range(500):
        address = ip_address(random.getrandbits(32) & 0xFF0000FF)
        holding = [(network.prefixlen, i) for i, network in numbered.items() if address in network]
        expected = max(holding)[1] if holding else 52428800
        assert resolve_peer(config, ":25", str(address)).max_message_size == expected
