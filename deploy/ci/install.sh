#!/usr/bin/env bash
# install.sh: try deploy/package/install.sh on a release made here: it installs,
# replaces a running binary, and takes nothing that was tampered with.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
archive=kage-mesh_$(go env GOOS)_$(go env GOARCH).tar.gz
mkdir "$work/release"
CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=9.9.9" -o "$work/kage-mesh" ./cmd/kage-mesh
tar -czf "$work/release/$archive" -C "$work" kage-mesh
(cd "$work/release" && sha256sum "$archive" >checksums.txt)

export HOME=$work/home KAGE_RELEASES=$work/release
deploy/package/install.sh | grep ' 9\.9\.9 '
deploy/package/install.sh >/dev/null # once more over the first
echo tampered >>"$work/release/$archive"
if deploy/package/install.sh >"$work/out" 2>&1 || ! grep -q checksum "$work/out"; then
  echo "install: took an archive with another checksum" >&2
  exit 1
fi
[ "$(ls -A "$HOME/.local/bin")" = kage-mesh ]
echo "install: installs, replaces, refuses"
