#!/usr/bin/env bash
# Installs what the benchmark runs beside Postrider: Debian's Postfix, with its smtp-source and smtp-sink. Starts no
# service: the benchmark runs an instance of its own, for as long as it measures. Safe to repeat.
set -euo pipefail

if [ -x /usr/sbin/postfix ] && [ -x /usr/sbin/smtp-sink ]; then exit 0; fi
echo "installing postfix from Debian" >&2
as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
# RUNLEVEL=1 keeps the package from starting a server.
install=(env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postfix)
"${as_root[@]}" "${install[@]}" >/dev/null 2>&1 || {
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" "${install[@]}" >/dev/null
}
