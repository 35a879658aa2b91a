"""The Status_Listener: HTTP for whoever watches the server, people and programs.

The way of a request through this room::

    listener.py      the sockets, as the configuration has them; how many may come
    asgi.py          the words of what goes between the two that follow
    http.py          one connection: requests read within bounds, handed to the application
    access.py        who may come in: the token, the name that was asked for; the headers of every answer
    application.py   what is there: the list of routes
    overview.py      what people look at, joined to one value; feed.py: it as a stream of events
    series.py        what happened over time, in bounded memory; refusals.py: the latest refusals, folded
    page.py          the page, its files in static/; login.py: who has shown the token in a browser
    source.py        what is shown: a few questions to the server, which another process may answer

Starlette and prometheus_client are imported where a Status_Listener is configured, and nowhere else.
"""
