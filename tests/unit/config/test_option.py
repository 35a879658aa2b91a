"""The option table: its rows, their scopes, and problems with a value."""

import attrs
from config_text import read_option

from triosmtp.config import OPTIONS, Settings, parse_config, problem_at
from triosmtp.config.option import GLOBAL, LISTEN
from triosmtp.errors import Severity


def test_an_option_is_valid_in_every_scope_unless_its_row_says_otherwise() -> None:
    places = {
        "global": "{} ESMTP_Listener {{ Listen ':25' {{ }} }}",
        "Pathway_Group": "Pathway_Group 'g' {{ {} }} ESMTP_Listener {{ Listen ':25' {{ }} }}",
        "Pathway": "Pathway_Group 'g' {{ Pathway 'p' {{ {} }} }} ESMTP_Listener {{ Listen ':25' {{ }} }}",
        "ESMTP_Listener": "ESMTP_Listener {{ {} Listen ':25' {{ }} }}",
        "Listen": "ESMTP_Listener {{ Listen ':25' {{ {} }} }}",
        "Peer": "ESMTP_Listener {{ Listen ':25' {{ Peer '10.0.0.0/8' {{ {} }} }} }}",
    }
    control = ("Control_Listener", "Listen of a Control_Listener")
    policy = ("Policy_Listener", "Listen of a Policy_Listener")
    status = ("Status_Listener", "Listen of a Status_Listener")
    only_global = {
        *("TLS_DHParams_File", "TLS_Enable_DHE_Ciphers", "TLS_Handshakes_Max", "TLS_Watch"),
        "TLS_EC_Curve_Names",
        *("Drain_Timeout", "Workers", "Log_Hires_Timestamp"),
        *("Limits_Store", "Limits_Store_Password_File", "Limits_Store_Timeout"),
        *("DNS_Servers", "Greylist_File", "Mock_Credentials_File"),
        *("Node_Name", "Publish_Events", "Publish_Events_Credentials_File"),
    }
    in_server_names = {"TLS_Certificate", "TLS_Key", "TLS_Key_Password_File", "TLS_OCSP_Response"}
    in_policy_listeners = {
        *("File_Mode", "Listen_Backlog", "TLS_Protocols", "TLS_Ciphers", "TLS_Client_CA", "TLS_Client_CRL"),
        *("TLS_Client_Purpose", "TLSv13_Ciphersuites"),
        *("TLS_Send_Client_CA_Names", "TLS_Verify_Depth", "TLS_Verify_Mode", "TLS_Handshake_Timeout"),
    }
    in_filters = {"Policy_Timeout", "Policy_Fallback", "Policy_Fallback_Phases"}
    in_domains = {"Known_Recipients", "Recipients_Fold_Case", "Deliver_To"}
    in_deliveries = {"Deliver_To", "TLS_Certificate", "TLS_Key", "TLS_Protocols", "TLS_Ciphers"}
    not_global = {
        "Use_SSL",
        "Starttls_Injection_Policy",
        "TLS_Verified_Peer_Can_Relay",
    }
    for option in OPTIONS.values():
        if option.name in {"Path", "Format", "Facility"}:
            assert option.scopes == ("Log",)
            continue
        if option.name in {"User", "Group", "Capabilities"}:
            assert option.scopes == ("Security",)
            continue
        if option.name in {"Connect_To", "Phases", "Hold_To", "Password_File", "Settings_ID"}:
            assert option.scopes == ("Filter",)
            continue
        if option.scopes in {("script",), ("scriptlet",)}:
            assert option.name in {"Source", "Script_Path", "Script_Max_Instructions", "Script_Max_Memory"}
            continue
        if option.scopes == ("Consumer",):
            continue
        if option.scopes in {("Delivery",), ("Delivery", "Domain")}:
            assert (option.name == "Verify_Recipients") == ("Domain" in option.scopes)
            continue
        if option.name == "Enable":
            assert option.scopes == ("ESMTP_Listener", "Listen", *control, *policy, *status)
            continue
        if option.name in {"Token_File", "Admin_Token_File", "Body_Limit", "Host_Names"}:
            alone = {"Token_File": (*policy, *status), "Host_Names": status}
            assert option.scopes == alone.get(option.name, policy)
            continue
        expected = {"global"} if option.name in only_global else set(places)
        expected -= {"global"} if option.name in not_global else set()
        expected |= set(control) if option.name == "File_Mode" else set()
        expected |= set(status) if option.name in {"File_Mode", "Listen_Backlog"} else set()
        expected |= {"Filter"} if option.name in in_filters else set()
        expected |= {"Domain"} if option.name in in_domains else set()
        expected |= {"Delivery"} if option.name in in_deliveries else set()
        expected |= {"Consumer"} if option.name == "Deliver_To" else set()
        expected |= {"Server_Name"} if option.name in in_server_names else set()
        expected |= set(policy) if option.name in in_policy_listeners | in_server_names else set()
        assert set(option.scopes) == expected, option.name
        if option.write_default() == "unset":
            continue
        for scope in expected & set(places):
            parse_config(places[scope].format(f"{option.name} = {option.write_default()}"))


def test_every_default_reads_as_itself() -> None:
    defaults = Settings()
    for option in OPTIONS.values():
        may_stand = not {GLOBAL, LISTEN}.isdisjoint(option.scopes)
        if option.write_default() != "unset" and may_stand:
            assert read_option(option.name, option.write_default()) == getattr(defaults, option.field), option.name


def test_the_table_is_complete_and_names_its_fields() -> None:
    fields = {field.name for field in attrs.fields(Settings)}
    assert fields == {"places", *OPTIONS}
    for field, option in OPTIONS.items():
        assert option.field == option.name.lower() == field
        assert option.doc.endswith(".")
        assert option.default == getattr(Settings(), field)


def test_a_later_problem_has_the_position_that_set_the_value() -> None:
    config = parse_config('ESMTP_Listener { Listen ":25" {\n  TLS_Key = "/key.pem"\n} }', "e.conf")
    settings = config.resolve(config.listens[0], None)
    assert str(problem_at(settings, "tls_key", "does not exist")) == (
        'e.conf:2:13: error: TLS_Key: does not exist\n      TLS_Key = "/key.pem"\n                ^'
    )
    assert str(problem_at(settings, "deliver_to", "is full", Severity.WARNING)) == "warning: Deliver_To: is full"
    assert str(config.listens[0].problem("in use")).startswith("e.conf:1:25: error: in use")
