"""HTTP requests to other servers, over Trio and within bounds.  The only package that imports httpx.

The modules::

    http_client.py      one request: what is sent, what is read, and what an error is
    tls_files.py        the TLS context of a client, built again when its files change

Nothing here is imported unless a target or a filter is reached by HTTP: httpx is in the extra ``http``.
"""
