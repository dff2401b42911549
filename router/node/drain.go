package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// drainPath is where members ask each other to drain: a POST of an
// admin.DrainOrder on the peer port. Whoever is a member may ask, as it may
// change models or evict; the node that is asked says in its log who did.
const drainPath = "/mesh/v1/drain"

// askLimit bounds the question to another node.
const askLimit = 3 * time.Second

var errStopping = errors.New("the node is being stopped already")

// Drain asks the node for no new work, or for work again. The mesh hears it at
// once; what waits here moves to other nodes, what runs is finished, or with
// now handed over to other nodes. It lasts until it is taken back or the node
// starts anew.
func (n *Node) Drain(o admin.DrainOrder) error {
	n.draining.Lock()
	defer n.draining.Unlock()
	if n.stopping.Load() {
		return errStopping
	}
	n.drain(o)
	return nil
}

// drain is Drain, also of a node that stops. n.draining is held.
func (n *Node) drain(o admin.DrainOrder) {
	n.mesh.SetDraining(o.On)
	if o.On {
		n.backend.Drain()
	} else {
		n.backend.Undrain()
	}
	n.router.HandOver(o.On && o.Now)
}

// DrainNode asks a member to drain, itself or another, and waits a moment for
// this node's own view to show it.
func (n *Node) DrainNode(ctx context.Context, id mesh.NodeID, o admin.DrainOrder) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if id == n.ID() {
		if err := n.Drain(o); err != nil {
			return err
		}
	} else if err := n.askToDrain(ctx, id, o); err != nil {
		return err
	}
	_, err := n.mesh.Wait(ctx, func(v *mesh.View) bool {
		m, ok := v.Member(id)
		return !ok || m.Draining() == o.On
	})
	if err != nil {
		return errors.New("it has agreed, and its reports do not show it yet")
	}
	return nil
}

func (n *Node) askToDrain(ctx context.Context, id mesh.NodeID, o admin.DrainOrder) error {
	name := string(id)
	if m, ok := n.mesh.View().Member(id); ok {
		if name = m.Name; m.Status != mesh.Alive {
			return fmt.Errorf("%s is not there (%s)", name, m.Status)
		}
	}
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+string(id)+drainPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := n.mesh.PeerTransport().RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s cannot be reached: %w", name, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusNotFound:
		return fmt.Errorf("%s runs a version that cannot be asked to drain", name)
	case http.StatusConflict:
		return errStopping
	}
	return fmt.Errorf("%s refuses: %s", name, resp.Status)
}

// serveDrain takes another member's question.
func (n *Node) serveDrain(w http.ResponseWriter, req *http.Request) {
	var o admin.DrainOrder
	switch {
	case req.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case json.NewDecoder(http.MaxBytesReader(w, req.Body, 4<<10)).Decode(&o) != nil:
		w.WriteHeader(http.StatusBadRequest)
		return
	case n.Drain(o) != nil:
		w.WriteHeader(http.StatusConflict)
		return
	}
	id, _ := identity.PeerID(req) // the server has verified it
	name := string(id)
	if m, ok := n.mesh.View().Member(id); ok {
		name = m.Name
	}
	n.log.Info("asked to drain by another member", "on", o.On, "now", o.Now, "by", name)
	w.WriteHeader(http.StatusNoContent)
}

// farewell stops a node in order. Nobody sends it new work any more; what runs
// here has its grace, and is handed over to other nodes after it. Until then
// new clients are still served, by other nodes. Then the port closes, answers
// that clients get through this node have as long again, those that are left
// end in an error that says why, and the goodbye comes last.
func (n *Node) farewell(ctx context.Context) {
	limit := time.Duration(n.grace.Load())
	n.log.Info("draining", "grace", limit)
	n.draining.Lock()
	n.stopping.Store(true)
	n.drain(admin.DrainOrder{On: true})
	n.draining.Unlock()
	grace := time.NewTimer(limit)
	defer grace.Stop()
	select {
	case <-n.backend.Idle():
	case <-grace.C:
		n.log.Info("handing over what still runs", "in_flight", n.mesh.Load().Running)
	case <-ctx.Done():
	}
	n.router.HandOver(true)
	_ = n.api.Close() // nobody new; connections that are there are still served
	rest, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	n.awaitQuiet(rest)
	if n.shutdown(rest) != nil && ctx.Err() == nil {
		n.log.Warn("stopping with requests still running", "requests", n.router.Running())
		n.router.Stop()
		last, cancel := context.WithTimeout(ctx, lastWords)
		defer cancel()
		_ = n.shutdown(last)
	}
	bye, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := n.mesh.Leave(bye); err != nil {
		n.log.Warn("left without goodbye", "err", err)
	}
}

// lastWords is how long clients have to read why their answers end.
const lastWords = time.Second

// hush is how long no client may want anything before their connections are
// closed: one that has just read the end of an answer may send its next
// request on the same connection at once, and would lose it.
const hush = 250 * time.Millisecond

// awaitQuiet waits until no client has wanted anything for a while.
func (n *Node) awaitQuiet(ctx context.Context) {
	tick := time.NewTicker(hush / 10)
	defer tick.Stop()
	for last := time.Now(); time.Since(last) < hush; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n.router.Running() > 0 {
			last = time.Now()
		}
	}
}

// lastAnswers has every client of a node that stops look for a new connection
// for its next request.
func (n *Node) lastAnswers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if n.stopping.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, req)
	})
}

// shutdown closes the servers and waits until nothing runs over them; an error:
// something does when ctx ends.
func (n *Node) shutdown(ctx context.Context) error {
	peers := make(chan error, 1)
	go func() { peers <- n.peers.Shutdown(ctx) }()
	return errors.Join(n.clients.Shutdown(ctx), <-peers)
}
