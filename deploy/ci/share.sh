#!/usr/bin/env bash
# share.sh DIRECTORY [VERSION]: the manual page and the completion scripts of a
# package, as the program itself prints them. The same sources give the same
# bytes.
set -euo pipefail
cd "$(dirname "$0")/../.."
into=$1 version=${2:-0.0.0}
mkdir -p "$into"
into=$(realpath "$into")
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
# For this machine, whatever the package is for; nothing of its user's settings.
CGO_ENABLED=0 GOOS= GOARCH= go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "$into/kage-mesh" ./cmd/kage-mesh
say() { env -u XDG_CONFIG_HOME -u XDG_STATE_HOME -u STATE_DIRECTORY -u KAGE_CONFIG HOME=/home/user "$into/kage-mesh" "$@"; }
say man | gzip -9n >"$into/kage-mesh.1.gz"
say completion bash >"$into/kage-mesh.bash"
say completion zsh >"$into/_kage-mesh"
say completion fish >"$into/kage-mesh.fish"
rm "$into/kage-mesh"
touch -d "@$SOURCE_DATE_EPOCH" "$into"/*
