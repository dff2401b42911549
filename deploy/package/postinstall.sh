#!/bin/sh
# After an install and after an upgrade, deb and rpm.
set -e
if [ -d /run/systemd/system ]; then
  # nvidia-smi wants devices that the unit hides; only where there is one.
  if [ -e /dev/nvidiactl ] && [ ! -e /etc/systemd/system/kage-mesh.service.d/gpu.conf ]; then
    mkdir -p /etc/systemd/system/kage-mesh.service.d
    cp /usr/share/doc/kage-mesh/gpu.conf /etc/systemd/system/kage-mesh.service.d/gpu.conf
  fi
  systemctl daemon-reload
  # $1: configure OLD-VERSION (deb), 2 (rpm) when it is an upgrade.
  if { [ "$1" = configure ] && [ -n "$2" ]; } || [ "$1" = 2 ]; then
    systemctl try-restart kage-mesh.service
  else
    systemctl enable --now kage-mesh.service
  fi
else
  echo "kage-mesh: no systemd runs here; start it with: kage-mesh join"
fi
