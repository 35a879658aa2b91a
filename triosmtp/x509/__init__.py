"""X.509 certificates and keys, as OpenSSL reads them (RFC 5280).

The modules::

    certificate.py         the facts of one certificate
    distinguished_name.py  subject and issuer as text (RFC 4514)
    der.py                 what OpenSSL has no call for, read from the encoding, if it has one reading
    loaded_certificate.py  a certificate of one of the operator's files
    public_key.py          kinds of keys; signature.py: algorithms of signatures
    public_authority.py    the authorities of the system
    error_queue.py         OpenSSL's errors, taken from its queue
    authority.py           issues certificates for development and tests

Nothing here knows about connections.
"""
