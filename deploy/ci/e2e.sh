#!/usr/bin/env bash
# e2e.sh [ARG...]: the tests that need the network lab or a real Ollama, one
# package at a time because they start many programs. ARGs go to go test.
#
# They are the packages whose tests import deploy/lab or deploy/realollama, so
# a new one is never forgotten, and the browser's. What this machine lacks is named once here; the
# tests skip themselves for it, or fail with CI=true.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/ci/cache.sh
export PATH=$PATH:/usr/sbin:/sbin

if [ "$(uname)" != Linux ] || [ "$(id -u)" != 0 ] || ! command -v ip >/dev/null || ! command -v nft >/dev/null; then
  echo "e2e: the network lab needs Linux, root, ip and nft: its tests are skipped here"
fi
ollama=${KAGE_TEST_OLLAMA:-$kage_cache/ollama-v0.11.4/ollama}
if [ ! -x "$ollama" ]; then
  echo "e2e: no real Ollama at $ollama: its tests are skipped here (make ollama builds it)"
fi

mapfile -t packages < <(go list -f '{{.ImportPath}}{{range .TestImports}} {{.}}{{end}}{{range .XTestImports}} {{.}}{{end}}{{range .Imports}} {{.}}{{end}}' ./... |
  awk '{ for (i = 1; i <= NF; i++) if ($i ~ /\/deploy\/(lab|realollama|browser)$/) { print $1; next } }')
echo "e2e: ${#packages[@]} packages"
exec go test -race -count=1 -p 1 -timeout 20m "$@" "${packages[@]}"
