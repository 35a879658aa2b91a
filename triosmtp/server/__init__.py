"""The server: from a configuration to sessions.

``server.py`` starts, reloads and ends it.  ``startup.py`` makes what a configuration needs, as a ``generation.py``:
``profile.py`` (options as running parts), ``tls_contexts.py``, ``sasl_config.py`` and ``auth_service.py``,
``relay_rules.py`` and ``sender_rules.py`` with ``client_list.py``, ``filter_policies.py`` and
``rspamd_filter.py``, ``scripts.py``, ``client_checks.py``, and ``policy_endpoint.py``.
``target_set.py`` has the targets of mail, ``target_factories.py`` makes them, and ``routing.py`` says which one a
recipient has.  ``service.py`` is what all sessions share; ``service_limits.py`` its limits (over several nodes:
``limits_store.py``) and ``statistics.py`` its counters.  ``published_events.py`` makes the
publisher of events.

``acceptor.py`` makes a session of a connection: ``proxy_protocol.py`` reads the header of a proxy, and
``admission.py`` counts or refuses the connection.  ``session_tasks.py`` has the tasks of the sessions, with a
``reusable_scope.py`` each.  ``session/`` is one SMTP session.  ``worker_pool.py`` is the interface to workers, which
serve the sessions instead.  ``policy_listener.py`` serves policy clients.

``certificate_watcher.py`` watches certificate files.  ``local_sessions.py`` shows sessions to policy clients and
operators, ``tls_report.py`` the TLS contexts.  ``embedded_warnings.py`` warns about scopes that an embedded server
ignores.
"""
