"""The attributes of a policy request, compared with those of Postfix."""

import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from policyd_service import PolicydService, Request, policyd_service
from postfix_twin import CASES, certificates, dialogue, postfix_twin, serve_dialogue

from triosmtp.filters.policyd_attributes import OWN_ATTRIBUTES, POSTFIX_ATTRIBUTES

PHASES = "connect ehlo mailfrom rcptto data data_spool"
NOT_SENT = {"mail_version", "compatibility_level", "stress"}
IDS = {"queue_id", "instance", "client_port", "server_port"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def recorded_postfix(site: Path) -> Iterator[tuple[int, PolicydService]]:
    """Run a Postfix; yield its port and the policy service that it asks."""
    with policyd_service() as recorder:
        ask = f"check_policy_service inet:127.0.0.1:{recorder.port}"
        options = [
            "smtpd_delay_reject = no", f"smtpd_client_restrictions = {ask}", f"smtpd_helo_restrictions = {ask}",
            f"smtpd_sender_restrictions = {ask}", f"smtpd_recipient_restrictions = {ask}",
            f"smtpd_data_restrictions = {ask}", f"smtpd_end_of_data_restrictions = {ask}",
        ]  # fmt: skip
        with postfix_twin(site, options) as port:
            yield port, recorder


OPTIONS = """
Policy = ( "filter:recorder" )
Filter "recorder" {{ Connect_To = "policyd:inet:127.0.0.1:{policyd}" Phases = ( {phases} ) }}
"""


async def ours(site: Path, case: tuple[str | None, ssl.TLSVersion | None, bool]) -> list[Request]:
    certificate, version, auth = case
    with policyd_service() as recorder:
        options = OPTIONS.format(policyd=recorder.port, phases=PHASES)
        await serve_dialogue(site, options, certificate, version, auth=auth)
        return recorder.requests


@pytest.mark.parametrize(("certificate", "version", "auth"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
async def test_requests_have_the_names_the_order_and_the_values_of_postfix(
    site: Path,
    recorded_postfix: tuple[int, PolicydService],
    certificate: str | None,
    version: ssl.TLSVersion | None,
    auth: bool,
) -> None:
    found = await ours(site, (certificate, version, auth))
    port, recorder = recorded_postfix
    recorder.requests.clear()
    await trio.to_thread.run_sync(partial(dialogue, port, site, certificate, version, auth=auth))
    theirs = list(recorder.requests)
    assert len(theirs) == len(found) == (8 if version else 7)
    for request, own in zip(theirs, found, strict=True):
        names = [name for name, _ in request if name not in NOT_SENT]
        assert [name for name, _ in own][: len(names)] == names == list(POSTFIX_ATTRIBUTES)
        assert {name for name, _ in own[len(names) :]} <= {*OWN_ATTRIBUTES, "triosmtp_listener"}
        values = dict(request)
        for name in NOT_SENT | IDS:
            values.pop(name, None)
        if values["protocol_state"] == "END-OF-MESSAGE":
            del values["size"]  # Postfix counts its Received
        assert {name: value for name, value in own if name in values} == values


async def test_instance_is_one_for_a_message_and_differs_between_messages(site: Path) -> None:
    found = [dict(request) for request in await ours(site, (None, None, False))]
    assert [each["protocol_state"] for each in found][1:] == ["EHLO", "MAIL", "RCPT", "RCPT", "DATA", "END-OF-MESSAGE"]
    of_message = {each["instance"] for each in found[2:]}
    assert len(of_message) == 1
    assert not of_message & {each["instance"] for each in found[:2]}
    assert found[-1]["queue_id"]
