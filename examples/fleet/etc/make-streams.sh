#!/bin/sh
# Make what nodes and consumers need of JetStream, once, with the command of NATS and the rights of an administrator.
set -e
nats stream add MAIL --subjects='mail.in.>' --storage=file --replicas=3 --retention=work --discard=new --dupe-window=2m --defaults
nats object add MAIL --storage=file --replicas=3
nats consumer add MAIL triosmtp --pull --ack=explicit --wait=30s --max-deliver=-1 --deliver=all --replay=instant --max-pending=10000 --defaults
nats kv add MAIL-results --replicas=3 --storage=file
nats stream add FAILED --subjects='mail.failed.>' --storage=file --replicas=3 --retention=limits --discard=new --defaults
