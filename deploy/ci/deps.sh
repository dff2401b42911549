#!/usr/bin/env bash
# deps.sh: what the tests need beside Go, on Debian and its kin, as root.
#
# Installs only what is missing. Elsewhere it names what is missing, and the
# tests that need it skip themselves with a line.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

declare -A package=([ip]=iproute2 [nft]=nftables [curl]=curl [ps]=procps [c++]=g++ [promtool]=prometheus [nginx]=nginx-light [haproxy]=haproxy [chromium]=chromium [systemd-analyze]=systemd [setpriv]=util-linux [node]=nodejs [npm]=npm [zsh]=zsh [fish]=fish [groff]=groff-base)
missing=()
for tool in "${!package[@]}"; do
  command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
done
[ ${#missing[@]} -gt 0 ] || { echo "deps: all there"; exit 0; }

if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "deps: missing ${missing[*]} (as root on Debian this would install them)"
  exit 0
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "deps: installed"
