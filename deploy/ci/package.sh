#!/usr/bin/env bash
# package.sh deb|rpm DIRECTORY [VERSION]: build the package for this machine's
# kind into DIRECTORY and print its path. The same sources give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/../.."
format=$1 into=$(realpath "$2")
export VERSION=${3:-0.0.0} ARCH=${GOARCH:-$(go env GOARCH)}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export BIN=$into/kage-mesh-$ARCH
CGO_ENABLED=0 GOOS=linux GOARCH=$ARCH go build -trimpath -buildvcs=false \
  -ldflags "-s -w -X main.version=$VERSION" -o "$BIN" ./cmd/kage-mesh
touch -d "@$SOURCE_DATE_EPOCH" "$BIN"
# The manual and what shells ask, the same for every kind of machine.
export SHARE=$into/share
deploy/ci/share.sh "$SHARE" "$VERSION"
deploy/ci/nfpm.sh package --config deploy/package/nfpm.yaml --packager "$format" --target "$into/" >/dev/null
rm -r "$BIN" "$SHARE"
ls "$into"/kage-mesh*."$format"
