"""The policy service: policy clients in other processes decide about sessions and observe them.

A question goes this way, and its answer comes back:

- ``websocket_policy.py``: the policy in the chain of a session makes a question of a phase, and applies the verdict;
- ``hub.py``: connects sessions with clients, and sends notifications;
- ``decider_group.py``: chooses a decider, and returns the fallback if there is no answer;
- ``connected_client.py``: one client, its access, and the questions that it has not answered;
- ``outbox.py``: the frames that wait to be sent to it;
- ``websocket_server.py``: its websocket: authentication, reading, writing, pings.

Also:

- ``question.py``: the values between sessions and hub (question, verdict, outcome);
- ``json_rpc.py``, ``json_field.py``, ``registration.py``, ``verdict_reader.py``: messages of clients, checked;
- ``event_notification.py``: the notification for each event;
- ``client_requests.py``: the requests of clients;
- ``shadow.py``: deciders in shadow, whose answers are only compared;
- ``notifier.py``: sends each notification to the clients that want it;
- ``client_access.py``: which clients may connect, and what each may request;
- ``server_admin.py``: the interface of the hub to its server;
- ``hub_limits.py``: the limits of a hub;
- ``filter_registry.py``: the filters that the server connects to, and their clients;
- ``circuit_breaker.py``: groups and filters that time out are asked less often;
- ``recorded_body.py``: messages in recordings.
"""
