"""Known_Recipients: which recipients exist, and what becomes of a file that changes."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from recipient_files import write, write_users

from triosmtp import ConfigError, Server, serve
from triosmtp.config import evaluate, find_query, parse_config
from triosmtp.recipients.recipient_file import RecipientFile
from triosmtp.testing import ScriptedClient


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return write_users(tmp_path)


async def test_a_reload_without_the_file_changes_nothing_and_one_with_it_reads_it_once(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[Path] = []
    parse = RecipientFile._parse

    def counted(self: RecipientFile, *arguments: Any) -> Any:
        parsed.append(self.path)
        return parse(self, *arguments)

    monkeypatch.setattr(RecipientFile, "_parse", counted)
    listens = 'ESMTP_Listener { Listen "127.0.0.1:0" { Peer "10.0.0.1" { Idle_Time = 7 } } }'
    conf = f'Relay_Domains = "example.org" Known_Recipients = ( "file:{users}" ) {listens}'

    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(partial(serve, parse_config(conf)))

        async def codes() -> list[int]:
            async with await trio.open_tcp_stream(*server.addresses["127.0.0.1:0"]) as stream:
                client = ScriptedClient(stream)
                await client.read()
                for line in ("EHLO c", "MAIL FROM:<>"):
                    await client.command(line)
                return [(await client.command(f"RCPT TO:<{each}@example.org>")).code for each in ("user", "nobody")]

        assert await codes() == [250, 550]
        await server.reload(parse_config(conf))
        assert parsed == [users], "unchanged, and for every Peer: read once"
        await trio.Path(users).rename(users.with_name("elsewhere"))
        with pytest.raises(ConfigError, match=r"Known_Recipients: .*No such file"):
            await server.reload(parse_config(f"Require_TLS = false {conf}"))
        assert await codes() == [250, 550]
        write(users, "nobody@example.org\n", age=9)
        await server.reload(parse_config(conf))
        assert await codes() == [550, 250]
        nursery.cancel_scope.cancel()


def test_config_eval_knows_the_scope_by_any_form_of_its_name() -> None:
    scopes = (
        'Domain "bücher.example" { Recipients_Fold_Case = true } Domain "*.a.example" { Recipients_Fold_Case = true }'
    )
    config = parse_config(f'{scopes} ESMTP_Listener {{ Listen ":25" {{ }} }}')
    for name in ("bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "*.A.example"):
        query = find_query(config, ["Domain", name])
        assert {"Known_Recipients", "Recipients_Fold_Case"} < {option.name for option in query.options}
        lines = evaluate(query.settings(config), query.options)
        assert any(line.startswith("Recipients_Fold_Case = true  # ") for line in lines)
