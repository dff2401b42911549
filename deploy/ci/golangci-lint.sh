#!/usr/bin/env bash
# golangci-lint.sh ARG...: run the pinned golangci-lint, built once into the
# user's cache (about a minute).
set -euo pipefail
. "$(dirname "$0")/cache.sh"

version=v2.15.0
file=$kage_cache/golangci-lint-$version/golangci-lint

build() {
  echo "building golangci-lint $version, once" >&2
  local into=$1 log=$1/log
  if ! (cd "$into" && GOBIN=$into GOFLAGS=-buildvcs=false \
    go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version") >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    return 1
  fi
}

once "$file" build
exec "$file" "$@"
