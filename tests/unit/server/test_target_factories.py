"""Each scheme has a factory."""

from pathlib import Path

import pytest

from triosmtp.config import parse_config
from triosmtp.config.types.target_address import SCHEMES
from triosmtp.delivery import TargetContext, TargetHealth
from triosmtp.module_loader import ModuleLoader
from triosmtp.server.target_factories import FACTORIES, make_delivery


def test_every_scheme_that_the_configuration_knows_has_a_factory() -> None:
    assert FACTORIES.keys() | {"python"} == SCHEMES.keys()


@pytest.mark.parametrize("address", ["maildir:/var/mail/in", "discard:", "python:store:deliver"])
def test_a_short_form_is_made(address: str, tmp_path: Path) -> None:
    (tmp_path / "store.py").write_text("async def deliver(message): pass\n")
    config = parse_config('ESMTP_Listener { Listen ":25" { } }')
    context = TargetContext("mx.example.org", TargetHealth(address))
    assert str(make_delivery(config.target(address), context, ModuleLoader(tmp_path))) == address
