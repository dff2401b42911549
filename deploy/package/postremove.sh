#!/bin/sh
# After a removal. The identity goes with a purge (deb) or the removal (rpm):
# a node that comes back with the same one is known to the others.
set -e
case "$1" in
  purge | 0)
    rm -rf /var/lib/kage-mesh /var/lib/private/kage-mesh /etc/systemd/system/kage-mesh.service.d
    rmdir /etc/kage-mesh 2>/dev/null || true
    ;;
esac
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
