package node

import (
	"bytes"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/guard"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/lane"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/registry"
)

// buildServers makes the two HTTP servers. Limits on headers and idle time
// bound what a slow or idle client may hold; an answer may take as long as it
// takes.
func (n *Node) buildServers() {
	api := &http.Server{
		Handler:           n.lastAnswers(n.guard.Handler(n.router.Client())),
		ConnContext:       n.guard.ConnContext,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          quiet(n.log.With("server", "api")),
	}
	api.RegisterOnShutdown(n.page.events.Close) // pages would hold the stop up
	n.clients = &lane.Server{HTTP: api}
	forwards, manage, rest := n.router.Peer(), n.router.Manage(), n.mesh.Handler()
	models := registry.Peer{Modelfile: n.backend.Modelfile, Dirs: n.stores(), Log: n.log}
	peer := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			defer guard.Contain(n.log)
			// A connection may be older than its node's eviction.
			if id, ok := identity.PeerID(req); !ok || n.mesh.Denied(id) || req.Header.Get("Origin") != "" {
				http.Error(w, "not a member of this mesh", http.StatusForbidden)
				return
			}
			path := req.URL.Path
			switch {
			case strings.HasPrefix(path, router.ForwardPath+"/"):
				forwards.ServeHTTP(w, req)
			case strings.HasPrefix(path, router.ManagePath+"/"):
				manage.ServeHTTP(w, req)
			case path == drainPath:
				n.serveDrain(w, req)
			case strings.HasPrefix(path, registry.ManifestPath), strings.HasPrefix(path, registry.BlobPath):
				models.ServeHTTP(w, req)
			default:
				rest.ServeHTTP(w, req)
			}
		}),
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          quiet(n.log.With("server", "peer")),
	}
	identity.ConfigureServer(peer)
	config := n.identity.ServerTLS(n.admitPeer())
	config.NextProtos = append([]string{lane.Trunk}, config.NextProtos...)
	n.peers = &lane.Server{HTTP: peer, TLS: config}
}

// Bounds of the peer port: every member needs one connection, and a few more
// while it restarts; many nodes of a test share one address.
const (
	maxPeerConns        = 8192
	maxPeerConnsPerAddr = 2048
)

// admitPeer asks the mesh who may use the peer port, and tells once a minute of
// who may not.
func (n *Node) admitPeer() func(identity.NodeID) bool {
	var last atomic.Int64
	var missed atomic.Int64
	return func(id identity.NodeID) bool {
		if n.mesh.Allow(id) {
			return true
		}
		now := time.Now().UnixNano()
		if then := last.Load(); now-then > int64(time.Minute) && last.CompareAndSwap(then, now) {
			n.log.Warn("a node that is no member called on the peer port", "node", id, "repeated", missed.Swap(0))
		} else {
			missed.Add(1)
		}
		return false
	}
}

// quiet takes the lines that net/http writes of its own accord and keeps them
// at debug: they tell of clients that broke off, and may quote what they sent.
func quiet(l *slog.Logger) *log.Logger { return log.New(httpLog{l}, "", 0) }

type httpLog struct{ log *slog.Logger }

func (h httpLog) Write(p []byte) (int, error) {
	line, _, _ := bytes.Cut(p, []byte("\n"))
	h.log.Debug("http server", "line", string(line))
	return len(p), nil
}
