"""Filters that other mail servers use: programs that triosmtp connects to and asks.

The modules::

    policyd_codec.py        requests and answers of Postfix's policy protocol, without input or output
    policyd_attributes.py   the attributes of a request
    policyd_action.py       the action of an answer, as a value
    policyd_client.py       connections, a second attempt, the time-out, the circuit breaker
    policyd_policy.py       the policy that stands in the chain
    envelope_changes.py     the effect of REDIRECT and BCC on the envelope

Nothing here is imported unless a filter is configured.
"""
