package router

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"sync"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// A request that waits at an owner may be better off at another node. It moves
// in two steps, so that it never runs twice: its ingress hands the ticket for
// the place in the queue back, and only the owner's refusal of the request
// itself (RefusedMoved) says that the place was given up before any work began.
// An owner that has started it meanwhile does nothing, and the ingress stays.

// WithdrawPath is where an ingress hands a ticket back: a POST with the ticket
// in headerTicket. 204: its request is let go unless it is being started; 404:
// no request waits by it any more. What became of the request is said in the
// answer to the request.
const WithdrawPath = ForwardPath + "/withdraw"

// errMoved ends the wait of a request that another node will start sooner.
var errMoved = errors.New("router: another node will start it sooner")

// tickets are the waits of other nodes' requests at this node's gate, by names
// that only their ingresses learn. The zero tickets has none.
type tickets struct {
	mu  sync.Mutex
	all map[string]*ticket
}

// ticket is one wait; it gets its name when its ingress is told of it.
type ticket struct {
	of   *tickets
	end  context.CancelCauseFunc
	name string
	over bool
}

// take makes a ticket and the context, derived from ctx, to wait with. The
// caller drops it when the wait is over; doing so twice does nothing more.
func (t *tickets) take(ctx context.Context) (context.Context, *ticket) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &ticket{of: t, end: cancel}
}

// called is the ticket's name, by which it can be handed back; "" when the wait
// is over.
func (k *ticket) called() string {
	k.of.mu.Lock()
	defer k.of.mu.Unlock()
	if k.name == "" && !k.over {
		k.name = rand.Text()
		if k.of.all == nil {
			k.of.all = make(map[string]*ticket)
		}
		k.of.all[k.name] = k
	}
	return k.name
}

func (k *ticket) drop() {
	k.of.mu.Lock()
	defer k.of.mu.Unlock()
	delete(k.of.all, k.name)
	k.over, k.name = true, ""
	k.end(nil)
}

// withdraw ends the wait of that name. A gate that starts the request in the
// same moment has the last word.
func (t *tickets) withdraw(name string) (waits bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, waits := t.all[name]
	if waits {
		k.end(errMoved)
	}
	return waits
}

func (r *Router) serveWithdraw(w http.ResponseWriter, req *http.Request) {
	if !r.tickets.withdraw(req.Header.Get(headerTicket)) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// withdraw hands a ticket of node's back. What comes of it shows in the attempt
// that waits there; when the question is lost, the next sign of life may lead to
// another one.
func (r *Router) withdraw(ctx context.Context, node mesh.NodeID, name string) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+string(node)+WithdrawPath, http.NoBody)
	if err != nil {
		return
	}
	req.Header.Set(headerTicket, name)
	if resp, err := r.peers.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
	}
}
