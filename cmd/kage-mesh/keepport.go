//go:build !windows

package main

import (
	"log/slog"
	"net"
	"os"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/node"
)

// portName is what the client port is called in the service manager's store.
const portName = "api"

// keptPort is the client port that the service manager has kept while the node
// restarts (sd_listen_fds(3)); nil: none. Clients that came meanwhile wait in it.
func keptPort(log *slog.Logger) net.Listener {
	var kept net.Listener
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		_ = f.Close()
		switch {
		case err != nil || f.Name() != portName || kept != nil:
			log.Warn("the service manager gave something that is not the client port", "name", f.Name(), "err", err)
			if l != nil {
				_ = l.Close()
			}
		default:
			kept = l
		}
	}
	return kept
}

// keepPort asks the service manager to keep the client port open from now on
// (sd_pid_notify_with_fds(3), FDSTORE), in place of what it keeps: a restart then
// refuses nobody. Without one it does nothing.
func keepPort(n *node.Node) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	manager := &net.UnixAddr{Name: socket, Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"}) // connected, it could send no descriptors
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.WriteTo([]byte("FDSTOREREMOVE=1\nFDNAME="+portName), manager); err != nil {
		return err
	}
	return n.LendAPI(func(fd uintptr) error {
		// Not polled: a listener is readable whenever a client waits, and never done.
		_, _, err := conn.WriteMsgUnix([]byte("FDSTORE=1\nFDPOLL=0\nFDNAME="+portName), syscall.UnixRights(int(fd)), manager)
		return err
	})
}
