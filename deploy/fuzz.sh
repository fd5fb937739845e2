#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_RUNS executions (10 million), and prints for each how many there were, how long the
# slowest input took and how much memory was used at most. An input that panics, takes over 5 s or makes the process grow
# beyond 512 MiB ends it and is kept in fuzz/artifacts. Inputs are short, 512 octets: what is long is a matter of the limits,
# which have tests of their own.
#
# No sanitizer and no traced comparisons: there is no unsafe code to watch, dictionaries know the words, and so the same
# time sees many times as many inputs.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.tools/bin:$PATH"

for target in replies commands contents canonical seven_bit; do
    echo "$target"
    mkdir -p "fuzz/corpus/$target"
    cargo +nightly fuzz run --fuzz-dir fuzz --sanitizer none --no-trace-compares "$target" -- -dict="fuzz/dictionaries/$target.dict" \
        -runs="${FUZZ_RUNS:-10000000}" -max_len=512 -timeout=5 -rss_limit_mb=512 -print_final_stats=1 2>&1 |
        grep -E '^(stat::|==|error|thread|SUMMARY|Test unit)'
done
