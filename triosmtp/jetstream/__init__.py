"""NATS: mail published to a stream of JetStream and taken from it, and events.

Only this package imports nats-py (the extra ``nats``).

::

    stream_factory.py    makes the delivery of a target nats://…, and the logins
    stream_delivery.py   StreamDelivery, on Trio
      message_codec.py     a message → the payload that is published, and back
      stream_publisher.py  publishes until it is acknowledged; the stream is asked about itself
        stream_query.py      the questions
        stream_check.py      what the settings must be; pure functions
      power_failure.py     one notice about what a power failure can lose
    consumer_runner.py   `triosmtp consume`: runs the parts below
      stream_consumer.py   delivers one message, recipient by recipient, and settles it
      consumer_source.py   takes messages from the stream; results, objects
        message_puller.py    requests messages, in batches
      consumer_query.py    the same questions, for `triosmtp check --connect`
      delivery_report.py   reports to senders (RFC 3464); pure functions
      object_sweeper.py    deletes objects that no message names, and results of deleted messages
    event_publisher.py   Publish_Events
    event_subscriber.py  the events of all nodes, for `policy watch`
    nats_thread.py       the thread with an asyncio event loop, and its connection
      nats_client.py       one connection; TLS is enforced here
        nats_parser.py       reads the protocol, with any subject and header
      nats_credentials.py  .creds files
    stream_address.py    the servers, the stream and the subject of a target
"""
