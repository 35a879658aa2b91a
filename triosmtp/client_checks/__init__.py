"""Checks of who is connecting: its name, lists in the DNS, greylisting.  They are policies that options switch on.

The modules::

    client_name.py        the name of a client, confirmed by an address of that name
    client_name_policy.py   its policy
    dnsbl.py              what the lists in the DNS say about an address
    dnsbl_policy.py         their policy
    greylist.py           what greylisting remembers a message by
    greylist_database.py    in an SQLite file
    greylist_redis.py       in the Redis of all nodes
    greylist_policy.py      its policy
    exemption.py          the clients and recipients to which lists and greylisting do not apply

Nothing here is imported unless an option needs it, and nothing asks the DNS by default.
"""
