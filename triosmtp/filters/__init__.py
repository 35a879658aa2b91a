"""Filters that other mail servers use: programs that triosmtp connects to and asks.

The modules::

    milter_codec.py         frames, commands and answers of Sendmail's milter protocol, without input or output
    milter_session.py       its steps: what may be said when
    milter_macros.py        the macros
    milter_link.py          one connection to a milter: each step within its time
    milter_content.py       the header and the body of a message, as a milter gets them
    milter_changes.py       what a milter changes: judged, and applied all at once
    milter_conversation.py  what a milter was asked about so far in a session
    milter_policy.py        the policy that stands in the chain
    readable.py             whether a connection that should be silent is not
    policyd_codec.py        requests and answers of Postfix's policy protocol, without input or output
    policyd_attributes.py   the attributes of a request
    policyd_action.py       the action of an answer, as a value
    policyd_client.py       connections, a second attempt, the time-out, the circuit breaker
    policyd_policy.py       the policy that stands in the chain
    rspamd_request.py       the fields of a request to rspamd
    rspamd_answer.py        the answer of rspamd, as a checked value
    rspamd_policy.py        the policy that stands in the chain
    envelope_changes.py     the effect of REDIRECT and BCC on the envelope

Nothing here is imported unless a filter is configured.
"""
