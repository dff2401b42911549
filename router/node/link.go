package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/lane"
)

// link carries forwards to other nodes: plain requests over the lane, all to one
// node over one trunk, and the rest over the HTTP/2 connection that also carries
// the nodes' other questions. net/http hands every frame of that to three or four
// goroutines, which costs both nodes together more than a small request does. What
// stays with HTTP/2 are large bodies, which an owner can refuse there before they
// are sent.
type link struct {
	lane   *lane.Transport
	trunks *lane.Trunks
	http2  http.RoundTripper
}

// linkBody is the largest body that goes over the lane, bytes: a long
// conversation, without images.
const linkBody = 256 << 10

// linkConns bounds the requests that are on their way to one node over its
// trunk.
const linkConns = 2048

func (n *Node) link() *link {
	dial := n.mesh.PeerDialer(identity.TransportOptions{Below: lane.Socket}, lane.Trunk)
	trunks := &lane.Trunks{Dial: func(ctx context.Context, host string) (net.Conn, error) { return dial(ctx, mesh.NodeID(host)) }}
	return &link{
		trunks: trunks,
		lane:   &lane.Transport{Dial: trunks.Conn, IdleTimeout: 30 * time.Second, MaxOpen: linkConns},
		http2:  n.mesh.PeerTransport(),
	}
}

func (l *link) close() {
	l.lane.CloseIdleConnections()
	l.trunks.Close()
}

func (l *link) RoundTrip(req *http.Request) (*http.Response, error) {
	if lane.Fits(req, linkBody) {
		resp, err := l.lane.RoundTrip(req)
		if !errors.Is(err, lane.ErrFull) {
			return resp, err
		}
	}
	return l.http2.RoundTrip(req)
}

// pulse asks a node for a sign of life over the HTTP/2 connection.
func (n *Node) pulse(ctx context.Context, id mesh.NodeID) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+string(id)+"/mesh/v1/id", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := n.mesh.PeerTransport().RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close() // whatever it says, it speaks
}
