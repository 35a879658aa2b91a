"""How host functions are declared."""

import pytest

from triosmtp.lua.host import HostTable, Parameter


def test_a_declaration_has_kinds_and_options() -> None:
    table = HostTable()

    @table.function("msys.dnsLookup", "ss?t?", waits=True)
    async def lookup(*arguments: object) -> None: ...

    (function,) = table.functions
    assert function.function is lookup
    assert function.parameters == (Parameter("s", False), Parameter("s", True), Parameter("t", True))
    assert function.waits
    assert not function.variadic
    assert function.state == "must"


def test_more_arguments_may_follow() -> None:
    table = HostTable()
    table.function("msys.f", "a*", state="should")(lambda *_: None)
    assert table.functions[0].variadic
    assert table.functions[0].state == "should"


def test_fields_are_read_and_written() -> None:
    table = HostTable()
    table.getter("vctx.code")(lambda *_: None)
    table.setter("vctx.code", "i")(lambda *_: None)
    assert [each.field for each in table.functions] == ["get", "set"]
    assert table.functions[1].parameters == (Parameter("i", False),)


@pytest.mark.parametrize("parameters", ["x", "?", "s??", "*s"])
def test_a_wrong_declaration_is_an_error(parameters: str) -> None:
    with pytest.raises(ValueError, match="is no kind of parameter"):
        HostTable().function("f", parameters)(lambda: None)
