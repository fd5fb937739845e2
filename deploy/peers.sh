#!/usr/bin/env bash
# Fetches the mail servers that `make peers` delivers to, from Debian and PyPI, into .tools/peers. They are unpacked, not
# installed: nothing of them is started, and they do not get into each other's way. Safe to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."

peers=$PWD/.tools/peers
mkdir -p "$peers"
exec 9>.tools/lock
flock 9

# Debian package names, and the directory to unpack them into.
unpack() {
    local into=$peers/$1
    shift
    [ -e "$into/.done" ] && return
    echo "fetching $* from Debian into $into" >&2
    local debs
    debs=$(mktemp -d)
    (cd "$debs" && apt-get download -qq "$@" 2>/dev/null) || {
        apt-get update -qq
        (cd "$debs" && apt-get download -qq "$@" 2>/dev/null)
    }
    for deb in "$debs"/*.deb; do
        dpkg-deb --extract "$deb" "$into"
    done
    rm -rf "$debs"
    touch "$into/.done"
}

unpack postfix postfix libicu72 libdb5.3 libsasl2-2 libnsl2 libtirpc3
unpack exim exim4-daemon-light libidn12 libgnutls-dane0 libunbound8 libevent-2.1-7 libdb5.3
unpack opensmtpd opensmtpd libevent-2.1-7 libdb5.3

if ! [ -x "$peers/aiosmtpd/bin/python" ]; then
    echo "installing aiosmtpd from PyPI into $peers/aiosmtpd" >&2
    python3 -m venv "$peers/aiosmtpd.new"
    "$peers/aiosmtpd.new/bin/python" -m pip install --quiet --disable-pip-version-check aiosmtpd==1.4.6
    mv "$peers/aiosmtpd.new" "$peers/aiosmtpd"
fi
