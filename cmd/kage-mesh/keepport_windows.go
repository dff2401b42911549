package main

import (
	"log/slog"
	"net"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/node"
)

// Windows has nobody who keeps a port open.
func keptPort(*slog.Logger) net.Listener { return nil }

func keepPort(*node.Node) error { return nil }
