"""Settings of a context: values that are compared, and that hold no secret."""

import pytest
from attrs import evolve

from triosmtp.tls import ContextStore, TLSSettings, build_context, load_material


def test_no_secret_in_a_representation(good: TLSSettings) -> None:
    assert good.certificates[0].key is not None
    secret = good.certificates[0].key.read_text().splitlines()[1]
    context = build_context(load_material(good))
    assert secret not in repr(context) + repr(context.material)
    assert "PRIVATE" not in repr(context)


def test_equal_settings_share_a_context(good: TLSSettings) -> None:
    store = ContextStore()
    assert store.prepare(good) is store.prepare(evolve(good)) is store.get(good)
    other = store.prepare(evolve(good, ciphers="HIGH"))
    assert store.contexts() == (store.get(good), other)
    with pytest.raises(KeyError):
        store.get(evolve(good, verify_depth=1))
