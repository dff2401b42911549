#!/usr/bin/env bash
# nfpm.sh ARG...: run the pinned nfpm, built once into the user's cache.
set -euo pipefail
. "$(dirname "$0")/cache.sh"

version=v2.45.2
file=$kage_cache/nfpm-$version/nfpm

build() {
  echo "building nfpm $version, once" >&2
  local into=$1 log=$1/log
  if ! (cd "$into" && GOBIN=$into GOFLAGS=-buildvcs=false \
    go install "github.com/goreleaser/nfpm/v2/cmd/nfpm@$version") >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    return 1
  fi
}

once "$file" build
exec "$file" "$@"
