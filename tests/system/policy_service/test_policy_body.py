"""The message itself: who may ask for it, in which parts, and what recordings hold of it."""

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trio
import trio.testing
from policy_schema import SCHEMA
from policy_stage import LOCAL, Raw, Stage, open_stage
from recorded_messages import body_of, recorded, sent

from triosmtp import DISCARD, Reject
from triosmtp.config import parse_config
from triosmtp.errors import ConfigError
from triosmtp.policy_client import MessageBody, PolicyClient, PolicyRequest, PolicyRequestError
from triosmtp.policy_service.hub import ClientAccess
from triosmtp.testing import ScriptedClient

PART = 65536
TCP = ClientAccess(listener="policy", peer="192.0.2.9:1", token="t" * 16)
TLS = ClientAccess(listener="policy", peer="192.0.2.9:1", token="t" * 16, encrypted=True)


@pytest.mark.parametrize(
    "size", [50, 100, PART - 1, PART, PART + 1, 3 * PART, 600_000, 1024 * 1024, 1024 * 1024 + 1, 2_000_000]
)
async def test_a_decider_reads_the_message_as_it_came(size: int, tmp_path: Path) -> None:
    message = body_of(size)
    found: list[MessageBody] = []
    async with open_stage(f'Spool_Directory = "{tmp_path}"') as stage:  # from 512 KiB on it is in a file
        client = PolicyClient("unix:/memory", name="bar", group="fraud")

        @client.on("data_spool")
        async def decide(request: PolicyRequest) -> None:
            assert "body" not in request.arguments
            found.append(await request.read_body())

        await stage.attach(client)
        session = await stage.hello()
        assert (await sent(session, message)).startswith("250")
        (body,) = found
        assert body.data == message[: 1024 * 1024]
        assert (body.size, body.truncated) == (len(message), len(message) > 1024 * 1024)
        assert stage.server.messages[0].body == message


async def test_the_words_on_the_wire() -> None:
    message = body_of(PART + 10)
    async with open_stage() as stage:
        raw = await stage.raw(ClientAccess(listener="policy", peer="unix", local=True, body_limit=PART + 5))
        await raw.decider("data_spool")
        session = await stage.hello()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sent, session, message)
            question = await raw.read()
            assert question["params"]["arguments"] == {"size": len(message), "headers": [["Subject", "x"]]}
            for part, data in ((1, message[PART : PART + 5]), (0, message[:PART])):  # in any order, and again
                await raw.send(id=7, method="message.body", params={"question": question["id"], "part": part})
                assert await raw.read() == {
                    "jsonrpc": "2.0",
                    "id": 7,
                    "result": {
                        "part": part,
                        "parts": 2,
                        "size": PART + 10,
                        "truncated": True,
                        "data": b64encode(data).decode(),
                    },
                }
            wrong: list[tuple[object, str]] = [
                (2, "below Body_Limit"),
                (-1, "an integer"),
                ("0", "an integer"),
                (True, "an integer"),
                (1.0, "an integer"),
            ]
            for value, said in wrong:
                await raw.send(id=8, method="message.body", params={"question": question["id"], "part": value})
                error = (await raw.read())["error"]
                assert (error["code"], said in error["message"]) == (-32602, True), error
            await raw.answer(question, decision="continue")


async def asked(stage: Stage, raw: Raw, session: ScriptedClient, *phases: str) -> list[dict[str, Any]]:
    """Send a message, and ask at each phase for its body; return the answers."""
    answers: list[dict[str, Any]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sent, session, body_of(100))
        for _ in phases:
            question = await raw.read()
            await raw.send(id=7, method="message.body", params={"question": question["id"]})
            answers.append(await raw.read())
            await raw.answer(question, decision="continue")
    return answers


@pytest.mark.parametrize(
    ("access", "token", "shown"),
    [
        (LOCAL, "", True),
        (TLS, "t" * 16, True),
        (TCP, "t" * 16, False),
        (ClientAccess(listener="p", peer="unix", local=True, body_limit=0), "", False),
    ],
)
async def test_only_on_a_private_way(access: ClientAccess, token: str, shown: bool) -> None:
    async with open_stage() as stage:
        raw = await stage.raw(access, token=token)
        await raw.decider("data_spool")
        (answer,) = await asked(stage, raw, await stage.hello(), "data_spool")
        assert ("result" in answer, answer.get("error", {}).get("code")) == (shown, None if shown else -32000)


async def test_at_data_spool_alone() -> None:
    async with open_stage() as stage:
        raw = await stage.raw()
        phases = ["mailfrom", "rcptto", "data", "data_spool", "data_spool_each_rcpt"]
        await raw.decider(*phases)
        answers = await asked(stage, raw, await stage.hello(), *phases)
        assert [answer.get("error", {}).get("code") for answer in answers] == [-32004, -32004, -32004, None, -32004]


async def test_observers_and_shadows_never_get_it() -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        shadow, observer, decider = await stage.raw(), await stage.raw(), await stage.raw()
        await shadow.decider("data_spool", mode="shadow")
        await observer.initialize(group="fraud")
        await decider.decider("data_spool")
        session = await stage.hello()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sent, session, body_of(100))
            question = await decider.read()
            await observer.send(id=7, method="message.body", params={"question": question["id"]})
            assert (await observer.read())["error"]["code"] == -32000
            await decider.answer(question, decision="continue")
        late = await shadow.read()
        for number in (question["id"], late["id"]):
            await shadow.send(id=7, method="message.body", params={"question": number})
            assert (await shadow.read())["error"]["code"] == -32000
        # Nor does a decider get what it is not asked about any more, or never was.
        other = await stage.raw()
        await other.decider("data_spool")
        for who, number in (
            (decider, question["id"]),
            (other, question["id"]),
            (other, "made-up"),
            (other, 5),
            (other, None),
        ):
            await who.send(id=8, method="message.body", params={"question": number})
            assert (await who.read())["error"]["code"] == -32004


async def test_a_question_that_is_asked_again_shows_it_again() -> None:
    async with open_stage() as stage:
        first, second = await stage.raw(), await stage.raw()
        await first.decider("data_spool", name="first")
        await second.decider("data_spool", name="second")
        session = await stage.hello()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sent, session, body_of(100))
            question = await first.read()
            await first.socket.aclose()
            again = await second.read()
            assert again["id"] == question["id"]
            await second.send(id=7, method="message.body", params={"question": again["id"]})
            assert b64decode((await second.read())["result"]["data"]) == body_of(100)
            await second.answer(again, decision="continue")


async def test_a_rehearsal_shows_no_message_of_a_live_session() -> None:
    async with open_stage() as stage:
        raw, admin = await stage.raw(), await stage.raw(token="a" * 16)
        await raw.decider("data_spool")
        await admin.initialize()
        session = await stage.hello()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sent, session, body_of(100))
            question = await raw.read()
            live = question["params"]["session"]
            request = {"phase": "data_spool", "session": live, "arguments": {"size": 1, "headers": []}}
            await admin.send(id=2, method="policy.replay", params={"group": "fraud", "requests": [request]})
            replayed = await raw.read()
            await raw.send(id=7, method="message.body", params={"question": replayed["id"]})
            assert (await raw.read())["error"]["code"] == -32004
            await raw.answer(replayed, decision="continue")
            await raw.answer(question, decision="continue")


async def test_a_refusal_reaches_the_handler() -> None:
    async with open_stage() as stage:
        client = PolicyClient("unix:/memory", name="bar", group="fraud", token="t" * 16)
        errors: list[PolicyRequestError] = []

        @client.on("data_spool")
        async def decide(request: PolicyRequest) -> None:
            try:
                await request.read_body()
            except PolicyRequestError as error:
                errors.append(error)
                raise Reject(450, "4.7.1", "not looked at") from error

        await stage.attach(client, TCP)
        assert (await sent(await stage.hello(), body_of(100))).startswith("450 4.7.1")
        (error,) = errors
        assert error.code == -32000
        assert "needs a Unix socket or TLS" in str(error)


async def test_a_limit_of_ones_own_saves_parts() -> None:
    async with open_stage() as stage:
        client = PolicyClient("unix:/memory", name="bar", group="fraud")
        found: list[MessageBody] = []

        @client.on("data_spool")
        async def decide(request: PolicyRequest) -> None:
            found.extend([await request.read_body(10), await request.read_body(0)])

        await stage.attach(client)
        message = body_of(3 * PART)
        await sent(await stage.hello(), message)
        assert [(body.data, body.truncated) for body in found] == [(message[:10], True), (b"", True)]


# Recordings


@pytest.mark.parametrize(
    ("access", "token", "code"),
    [
        (LOCAL, "", -32002),
        (ClientAccess(listener="p", peer="x", token="t" * 16, admin_token="a" * 16), "a" * 16, -32000),
        (ClientAccess(listener="p", peer="x", encrypted=True, token="t" * 16, admin_token="a" * 16), "t" * 16, -32002),
        (ClientAccess(listener="p", peer="unix", local=True, admin_token="a" * 16, body_limit=0), "a" * 16, -32000),
    ],
)
async def test_who_may_not_record_it(access: ClientAccess, token: str, code: int) -> None:
    async with open_stage() as stage:
        raw = await stage.raw(access, token=token)
        answer = await raw.initialize(notifications=["session.phase"], bodies=True)
        assert answer["error"]["code"] == code
        assert "bodies" in answer["error"]["message"]
        assert not stage.hub.clients()


# Contexts apart, and who discards


async def test_the_contexts_are_filtered_apart() -> None:
    async with open_stage("Context = [ site = a other = b ]") as stage:
        raws = {
            "apart": await stage.raw(),
            "message alone": await stage.raw(),
            "as before": await stage.raw(),
        }
        deciders: dict[str, dict[str, Any]] = {
            "apart": {"variables": ["site"], "message_variables": ["mailfrom_*"]},
            "message alone": {"message_variables": []},
            "as before": {"variables": ["site", "rcpt*"]},
        }
        for name, raw in raws.items():
            wanted: dict[str, Any] = {
                "name": name.replace(" ", "-"),
                "notifications": ["message.accepted"],
                **deciders[name],
            }
            await raw.initialize(**wanted)
        decider = await stage.raw()
        await decider.decider("rcptto", variables=["site"], message_variables=["mailfrom_l*"], changed_only=True)
        session = await stage.hello()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sent, session, body_of(100))
            question = await decider.read()
            assert question["params"]["variables"] == {"site": "a"}
            assert question["params"]["message_variables"] == {"mailfrom_localpart": "a"}
            await decider.answer(question, decision="continue", set={"message": {"mailfrom_x": "1", "rcpt_x": "2"}})
        seen = {name: (await raw.read())["params"] for name, raw in raws.items()}
        assert seen["apart"]["variables"] == {"site": "a"}
        assert {"mailfrom_x"} <= set(seen["apart"]["message_variables"])
        assert all(name.startswith("mailfrom_") for name in seen["apart"]["message_variables"])
        assert {"site", "other"} <= set(seen["message alone"]["variables"])
        assert seen["message alone"]["message_variables"] == {}
        assert seen["as before"]["variables"] == {"site": "a"}
        assert seen["as before"]["message_variables"]["rcpt_x"] == "2"
        assert "mailfrom_x" not in seen["as before"]["message_variables"]


@pytest.mark.parametrize("phase", ["connect", "mailfrom", "rcptto", "data", "data_spool", "data_spool_each_rcpt"])
async def test_a_discard_names_the_decider(phase: str) -> None:
    async with open_stage() as stage:
        notes = await recorded(stage, bodies=False)
        client = PolicyClient("unix:/memory", name="bar", group="fraud")

        @client.on(phase)
        async def decide(request: PolicyRequest) -> Any:
            return DISCARD

        await stage.attach(client)
        assert (await sent(await stage.hello(), body_of(100))).startswith("250")
        await trio.testing.wait_all_tasks_blocked()
        assert not stage.server.messages
        (accepted,) = [event for event in stage.server.events if type(event).__name__ == "MessageAccepted"]
        assert accepted.discarded_by == "websocket:fraud/bar"  # type: ignore[union-attr]
        outcomes = {note.params["phase"]: note.params["outcome"] for note in notes}
        assert outcomes["data_spool"]["decision"] == "accepted"
        assert outcomes["data_spool"]["decided_by"] == "websocket:fraud/bar"


def test_the_option() -> None:
    mail = 'ESMTP_Listener { Listen ":25" { } }'
    text = mail + 'Policy_Listener { Body_Limit = 5 Listen "/tmp/a" { } Listen "/tmp/b" { Body_Limit = 0 } }'
    config = parse_config(text)
    assert [config.resolve(each, None).body_limit for each in config.policy_listens] == [5, 0]
    with pytest.raises(ConfigError, match="Body_Limit"):
        parse_config("Body_Limit = 5")


# The schema's root

ROOT = jsonschema.Draft202012Validator(SCHEMA)


@pytest.mark.parametrize(
    "value",
    [
        {}, [], "x", 5, None, True, {"jsonrpc": "2.0"}, {"decision": "continue"}, {"name": "bar"},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "method": "session.steal"},
        {"jsonrpc": "2.0", "id": 1, "method": "initialize"},
        {"jsonrpc": "1.0", "id": 1, "method": "session.list", "params": {}},
        {"id": 1, "method": "session.list"},
        {"jsonrpc": "2.0", "id": 1, "result": 5},
        {"jsonrpc": "2.0", "result": {"decision": "continue"}},
        {"jsonrpc": "2.0", "id": 1, "error": {}},
        {"jsonrpc": "2.0", "id": "a", "error": {"code": 1, "message": "x"}, "result": {}},
        {"jsonrpc": "2.0", "id": "s-1", "method": "validate_mailfrom", "params": {}},
        {"jsonrpc": "2.0", "method": "session.tls", "params": {"sequence": 0}},
    ],
)  # fmt: skip
def test_the_root_of_the_schema_takes_nothing_but_messages(value: object) -> None:
    assert not ROOT.is_valid(value)


@pytest.mark.parametrize(
    "value",
    [
        {"jsonrpc": "2.0", "id": 1, "method": "session.list"},
        {"jsonrpc": "2.0", "id": "s-1", "result": {"decision": "continue"}},
        {"jsonrpc": "2.0", "id": 7, "result": {}},
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "not JSON"}},
    ],
)
def test_the_root_of_the_schema_takes_messages(value: object) -> None:
    ROOT.validate(value)
