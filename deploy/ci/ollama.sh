#!/usr/bin/env bash
# ollama.sh [VERSION]: build a real Ollama server into the user's cache, unless
# it is there, and print its path.
#
# v0.11.4 is the newest version that is complete when built as a Go module:
# modules leave out directories called vendor, where later ones keep headers.
# v0.9.6 works too. It needs a C++ compiler and some minutes, once.
set -euo pipefail
. "$(dirname "$0")/cache.sh"

version=${1:-v0.11.4}
file=$kage_cache/ollama-$version/ollama

build() {
  local into=$1 log=$1/log
  if ! command -v c++ >/dev/null && ! command -v g++ >/dev/null; then
    echo "error: building Ollama needs a C++ compiler" >&2
    echo "fix: apt-get install g++, or set KAGE_TEST_OLLAMA to an Ollama that is there" >&2
    return 1
  fi
  echo "building Ollama $version, once: some minutes" >&2
  # The C++ code warns a lot; show it only when the build fails.
  if ! (cd "$into" && CGO_ENABLED=1 GOBIN=$into GOFLAGS=-buildvcs=false \
    go install "github.com/ollama/ollama@$version") >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    return 1
  fi
}

once "$file" build
echo "$file"
