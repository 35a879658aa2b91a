"""The benchmark: server CPU per message and per handshake, triosmtp beside aiosmtpd on uvloop in one run."""
