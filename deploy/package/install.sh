#!/bin/sh
# install.sh [VERSION]: put the kage-mesh binary of a release into ~/.local/bin
# (or $KAGE_BIN), without root. Linux and macOS, amd64 and arm64.
#
# The archive is checked against the release's checksums before it is opened.
# KAGE_RELEASES names another place to get releases from, a URL or a directory.
set -eu

version=${1:-latest}
into=${KAGE_BIN:-$HOME/.local/bin}
releases=${KAGE_RELEASES:-https://github.com/AI-Prompt-Ops-Kitchen/kage-mesh/releases}

fail() {
  echo "error: $1" >&2
  [ -z "${2:-}" ] || echo "fix: $2" >&2
  exit 1
}

case "$(uname -s)" in
  Linux) os=linux ;;
  Darwin) os=darwin ;;
  *) fail "no build for $(uname -s)" "on Windows take the zip from $releases" ;;
esac
case "$(uname -m)" in
  x86_64 | amd64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) fail "no build for $(uname -m)" "go install github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh@latest" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

get() { # get NAME
  case "$releases" in
    http*://*)
      if [ "$version" = latest ]; then url=$releases/latest/download/$1; else url=$releases/download/v${version#v}/$1; fi
      if command -v curl >/dev/null; then curl -fsSL -o "$work/$1" "$url"; else wget -q -O "$work/$1" "$url"; fi ||
        fail "cannot get $url"
      ;;
    *) cp "$releases/$1" "$work/$1" || fail "cannot read $releases/$1" ;;
  esac
}

archive=kage-mesh_${os}_${arch}.tar.gz
get checksums.txt
get "$archive"
want=$(sed -n "s/^\([0-9a-f]\{64\}\)  $archive\$/\1/p" "$work/checksums.txt")
if command -v sha256sum >/dev/null; then got=$(sha256sum "$work/$archive"); else got=$(shasum -a 256 "$work/$archive"); fi
[ -n "$want" ] || fail "$archive is not in checksums.txt"
[ "${got%% *}" = "$want" ] || fail "$archive does not have the checksum that the release names" "try again; if it stays so, tell us"

tar -xzf "$work/$archive" -C "$work" kage-mesh
mkdir -p "$into"
cp "$work/kage-mesh" "$into/.kage-mesh.new"
chmod 0755 "$into/.kage-mesh.new"
mv "$into/.kage-mesh.new" "$into/kage-mesh" # a running one is not disturbed
"$into/kage-mesh" version
case ":$PATH:" in
  *":$into:"*) echo "next: kage-mesh join" ;;
  *) echo "next: $into/kage-mesh join (and add $into to PATH)" ;;
esac
