"""The Status_Listener: an HTTP server for monitoring programs and for the status page.

A request passes through these modules::

    status_listener.py   the sockets of the configuration, limits of connections
    asgi.py              types of the interface between the next two
    http_server.py       one connection: bounded requests, passed to the application
    request_access.py    the token, the Host field, and header fields of every response
    application.py       the list of routes
    page.py              the status page, its files in static/; login.py: logins of browsers
    event_stream.py      the overview as server-sent events

The data::

    status_source.py     queries to the server, which another process may answer
    overview.py          the value that page and ``triosmtp top`` show
    time_series.py         counts over time, in bounded memory
    refusals.py            the latest refusals, grouped
    metrics.py           the counters of /metrics
    metric_family.py       the table of metrics
    metric_label.py        fixed values of labels
    loop_lag.py            lag of the event loop
    exposition.py          the text that Prometheus reads

Starlette and prometheus_client are imported only if a Status_Listener is configured.
"""
