#!/usr/bin/env bash
# Breaks one promise after the other and runs the test that must notice; fails where one does not (docs/sabotage.md).
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/sabotage"

caught_by=(
  "AnswerBeforeStored a_killed_ingest_accepts_nothing_twice"
  "NoFence a_stopped_worker_sends_nothing_late"
  "OpenThrottle limits_hold_when_redis_dies"
  "NoMarker a_worker_that_dies_unsettled_sends_nothing_twice"
  "ScheduleWithId what_is_deferred_again_and_again_is_delivered_in_the_end"
)

run() { # <sabotage or nothing> <test>
  # What was answered for and lost is waited for no longer than this.
  POSTRIDER_TEST_PATIENCE=60 POSTRIDER_SABOTAGE="$1" RUST_BACKTRACE=0 cargo test --quiet --package tests --features sabotage --test e2e -- "$2"
}

failed=0
for line in "${caught_by[@]}"; do
  read -r sabotage test <<<"$line"
  if ! run "" "$test" >/dev/null 2>&1; then
    echo "VOID    $test fails without any sabotage"
    failed=1
  elif run "$sabotage" "$test" >/dev/null 2>&1; then
    echo "MISSED  $sabotage by $test"
    failed=1
  else
    echo "caught  $sabotage by $test"
  fi
done
exit $failed
