#!/bin/bash
# Refuse mail from clients without a valid certificate: a decider in a shell, over any tool that makes a websocket stdin
# and stdout.  It needs jq.
#   npm install && ./partners.sh node lines.mjs ws://127.0.0.1:8025/ token
#   ./partners.sh websocat -H "Authorization: Bearer $(cat token)" --protocol policy.v1.triosmtp ws://127.0.0.1:8025/
set -euo pipefail

coproc SOCKET { "$@"; }
say() { printf '%s\n' "$1" >&"${SOCKET[1]}"; }

say "$(jq -cn '{
    jsonrpc: "2.0", id: 1, method: "initialize",
    params: {name: "partners-shell", group: "partners", role: "decider", phases: ["mailfrom"], variables: ["tls*"], notifications: []}
}')"

while read -r line <&"${SOCKET[0]}"; do
    case $(jq -r '.method // "answer"' <<<"$line") in
    validate_mailfrom)
        say "$(jq -c '{
            jsonrpc: "2.0", id: .id,
            result: (.params.variables | if .tls_client_verified == "yes" then {decision: "continue"}
            elif .tls != "on" then {
                decision: "reject", code: 530, enhanced: "5.7.0", text: "Must issue a STARTTLS command first"
            } else {
                decision: "reject", code: 550, enhanced: "5.7.1",
                text: ("A valid client certificate is required: " + .tls_client_verify_error)
            } end)
        }' <<<"$line")"
        ;;
    answer)
        jq -r 'if .error then .error.message else "ready" end' <<<"$line"
        ;;
    esac
done
