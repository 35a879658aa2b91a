#!/usr/bin/env sh
# A deploy hook of acme.sh: gives a certificate to triosmtp, now and whenever it is renewed.
#
#   install -m 0644 examples/deploy/acme-sh-deploy-hook.sh ~/.acme.sh/deploy/triosmtp.sh
#   acme.sh --deploy -d mx.example.org --deploy-hook triosmtp
#
# Chain and key become one file that is exchanged whole: triosmtp sees the old pair or the new one, never half of each.

# What acme.sh calls, with: domain, key file, certificate file, CA file, full chain file.
triosmtp_deploy() {
    _triosmtp_domain="$1"
    _triosmtp_key="$2"
    _triosmtp_chain="$5"
    _triosmtp_directory="${TRIOSMTP_TLS_DIRECTORY:-/etc/triosmtp/tls}"
    _triosmtp_group="${TRIOSMTP_GROUP:-triosmtp}"
    _triosmtp_program="${TRIOSMTP:-/opt/triosmtp/bin/triosmtp}"
    _triosmtp_control="${TRIOSMTP_CONTROL:-/run/triosmtp/control}"

    mkdir -p "$_triosmtp_directory" &&
        chgrp "$_triosmtp_group" "$_triosmtp_directory" &&
        chmod 0750 "$_triosmtp_directory" || return 1
    _triosmtp_new=$(umask 077 && mktemp "$_triosmtp_directory/.$_triosmtp_domain.XXXXXX") || return 1
    if ! { cat "$_triosmtp_chain" "$_triosmtp_key" >"$_triosmtp_new" &&
        chgrp "$_triosmtp_group" "$_triosmtp_new" &&
        chmod 0640 "$_triosmtp_new" &&
        mv -f "$_triosmtp_new" "$_triosmtp_directory/$_triosmtp_domain.pem"; }; then
        rm -f "$_triosmtp_new"
        return 1
    fi
    if [ -S "$_triosmtp_control" ]; then
        "$_triosmtp_program" console --control "$_triosmtp_control" 'tls flush cache' || return 1
    fi
}
