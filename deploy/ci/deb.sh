#!/usr/bin/env bash
# deb.sh: build the deb, install it, run it as its unit would, upgrade it,
# remove it, and see that nothing is left. Debian and its kin, as root; where
# systemd is not the first process the unit's own command is started by hand, as
# a user without rights.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! command -v dpkg >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "deb: needs dpkg and root"
  [ "${CI:-}" != true ] || exit 1
  exit 0
fi
if dpkg -s kage-mesh >/dev/null 2>&1; then
  echo "deb: kage-mesh is installed here already, and would be removed: not run" >&2
  exit 1
fi
work=$(mktemp -d)
node=
finish() {
  [ -z "$node" ] || kill "$node" 2>/dev/null || true
  dpkg --purge kage-mesh >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT

mkdir "$work/1" "$work/2"
one=$(deploy/ci/package.sh deb "$work/1" 0.0.1)
two=$(deploy/ci/package.sh deb "$work/2" 0.0.2)
echo "deb: $(basename "$one") has $(stat -c %s "$one") bytes"

dpkg --install "$one" >/dev/null
kage-mesh version | grep ' 0\.0\.1 ' >/dev/null
echo "deb: $(systemd-analyze security --offline=true --threshold=20 --no-pager /usr/lib/systemd/system/kage-mesh.service | grep Overall)"

# What the unit runs, with what systemd would give it.
read -ra command <<<"$(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/kage-mesh.service)"
install -d -o nobody -m 0700 "$work/state"
chmod 0755 "$work"
start() {
  setpriv --reuid=nobody --regid=nogroup --clear-groups --no-new-privs --bounding-set=-all \
    env -i PATH=/usr/bin STATE_DIRECTORY="$work/state" "${command[@]}" --no-mdns --ollama 127.0.0.1:1 \
    --api-listen 127.0.0.1:0 --peer-listen 127.0.0.1:0 --gossip-listen 127.0.0.1:0 >"$work/out" 2>"$work/log" &
  node=$!
  api=
  for _ in $(seq 300); do
    api=$(sed -n 's/.* api  *http:\/\/\([0-9.:]*\) .*/\1/p' "$work/out")
    [ -z "$api" ] || return 0
    sleep 0.1
  done
  cat "$work/out" "$work/log" >&2
  return 1
}
start
kage-mesh members --api "$api" | grep alive >/dev/null
id=$(kage-mesh members --api "$api" --json | sed -n 's/.*"id": "\(.*\)".*/\1/p')

# What is left out by dpkg's settings of small images cannot be read here.
if [ -e /usr/share/man/man1/kage-mesh.1.gz ]; then
  zcat /usr/share/man/man1/kage-mesh.1.gz | grep '^.TH KAGE' >/dev/null
fi
dpkg --contents "$one" | grep -c -e man1/kage-mesh.1.gz -e completions/kage-mesh -e /_kage-mesh -e kage-mesh.fish | grep -x 4 >/dev/null

dpkg --install "$two" >/dev/null
kage-mesh version | grep ' 0\.0\.2 ' >/dev/null
kage-mesh leave --api "$api" 2>/dev/null
wait "$node"
start
[ -n "$id" ]
[ "$(kage-mesh members --api "$api" --json | sed -n 's/.*"id": "\(.*\)".*/\1/p')" = "$id" ]
kage-mesh leave --api "$api" 2>/dev/null
wait "$node"
node=
echo "deb: upgraded, the node kept its identity"

dpkg --listfiles kage-mesh >"$work/files"
dpkg --purge kage-mesh >/dev/null
left=()
while read -r file; do
  [ ! -e "$file" ] || [ -d "$file" ] || left+=("$file")
done <"$work/files"
for dir in /etc/kage-mesh /var/lib/kage-mesh /usr/share/doc/kage-mesh; do
  [ ! -e "$dir" ] || left+=("$dir")
done
if [ ${#left[@]} -gt 0 ]; then
  printf 'deb: left behind: %s\n' "${left[@]}" >&2
  exit 1
fi
echo "deb: removed, nothing is left"
