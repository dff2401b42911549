// Package systemd checks the unit and its drop-ins here, with systemd's own
// tools where they are.
package systemd
