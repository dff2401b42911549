#!/usr/bin/env bash
# fuzz.sh [TIME]: run every fuzz target for TIME (default 1m), one after the
# other. A crash leaves its input under the package's testdata/fuzz, to be kept
# as a regression case.
set -euo pipefail
cd "$(dirname "$0")/../.."
duration=${1:-1m}
ran=0 failed=()
for dir in $(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do
  for target in $(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | sort -u); do
    echo "fuzz: $dir $target $duration"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" "$dir" || failed+=("$dir $target")
    ran=$((ran + 1))
  done
done
echo "fuzz: $ran targets, ${#failed[@]} failed"
[ ${#failed[@]} = 0 ] || { printf 'fuzz: failed: %s\n' "${failed[@]}"; exit 1; }
