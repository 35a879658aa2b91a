"""One SMTP session, from an accepted connection to its end.

``driver.py``                 :class:`SMTPSession`: the loop, the time-outs, TLS, the end
``session_stream.py``         what it reads from and writes to: the transport, or TLS on it
``state.py``                  :class:`SessionState`: all that the handlers read and change; why a session ended
``handlers.py``               what each event of the sans-io connection asks for: one function each
``policy_phase.py``           a policy phase: ask, restrict, report the outcome
``restrictions.py``           the built-in checks of each phase that the options ask for
``refusal.py``                how a step is refused
``transaction.py``            one message, from MAIL to its final reply
``dispatch.py``               its way to its targets: verified recipients, the plan, the reply to all results
``auth.py``                   AUTH: the SASL exchange, and what a failure costs
``xclient.py``                XCLIENT and the other commands of trusted peers
``authentication_results.py`` the header field of RFC 8601
"""
