"""Types of options: the text of a value to its Python value, and back.

The modules, by subject::

    option_type.py      types for any option: boolean, integer, time, choice, list, ...
    listen_address.py   addresses of Listen scopes
    filter_address.py   addresses and names of filters
    rspamd_address.py   the address of rspamd
    limits_store.py     the URL of a Limits_Store
    dns_server.py       addresses of DNS servers
    dnsbl_site.py       lists in the DNS
    smtp_types.py       extensions, the banner, the text of reply 421
    tls_types.py        files, protocol versions, ciphers, clients that may relay, rates
    server_name.py      names of servers in Server_Name scopes
    auth_parameters.py  parameters of AUTH
    policy_grammar.py   the words of Policy and their forms
    policy_types.py     Pathway, policies, fallbacks, recipient files
    delivery_types.py   targets, fingerprints, addresses of monitors
      target_address.py   the schemes of targets; the name of a Delivery
      target_url.py       the grammar of targets that are URLs
    nats_types.py       the name of a node, the subject of events
    trusted_proxies.py  networks of proxies
    security_types.py   users, groups and capabilities
"""
