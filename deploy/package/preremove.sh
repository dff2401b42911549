#!/bin/sh
# Before a removal, and not before an upgrade: $1 is remove (deb) or 0 (rpm).
set -e
case "$1" in
  remove | 0)
    if [ -d /run/systemd/system ]; then
      systemctl disable --now kage-mesh.service || true
    fi
    ;;
esac
