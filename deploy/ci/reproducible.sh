#!/usr/bin/env bash
# reproducible.sh: build the program and the deb twice, from two places and
# with nothing kept from the first for the second, and compare the bytes.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

for place in a/first b/second/deeper; do
  mkdir -p "$work/$place" "$work/out/$(dirname "$place")"
  git ls-files -z | tar --null --files-from=- -cf - | tar -xf - -C "$work/$place"
  out=$work/out/$(dirname "$place") cache=$work/cache/$(dirname "$place")
  (
    cd "$work/$place"
    export GOCACHE=$cache
    for target in ${TARGETS:-linux/amd64}; do
      CGO_ENABLED=0 GOOS=${target%/*} GOARCH=${target#*/} go build -trimpath -buildvcs=false \
        -ldflags "-s -w -X main.version=0.0.0" -o "$out/kage-mesh-${target%/*}-${target#*/}" ./cmd/kage-mesh
    done
    mkdir "$out/deb"
    deploy/ci/package.sh deb "$out/deb" >/dev/null
  )
  (cd "$out" && find . -type f -print0 | sort -z | xargs -0 sha256sum) >"$work/sums.$(dirname "$place" | tr / -)"
done
cat "$work/sums.a"
if ! cmp "$work"/sums.*; then
  diff "$work"/sums.* >&2 || true
  echo "reproducible: the two builds differ" >&2
  exit 1
fi
echo "reproducible: $(wc -l <"$work/sums.a") files, the same from both places"
