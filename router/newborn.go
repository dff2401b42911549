package router

import (
	"context"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// infancy is how long after its start a node may not know its mesh yet. Its
// port is open at once; finding the others takes up to some seconds, and
// learning what they have a moment more.
const infancy = 3 * time.Second

// meet waits, in a node's first seconds, until it knows who could serve a
// request for the model key, or that nobody can. A client that comes at the
// moment of a restart is not told that its model does not exist.
func (r *Router) meet(ctx context.Context, key string) {
	young := infancy - time.Since(r.born)
	if young <= 0 || r.config.Await == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, young)
	defer cancel()
	_, _ = r.config.Await(ctx, func(v *mesh.View) bool { return acquainted(v, key) })
}

// acquainted reports whether v is more than a beginning: somebody serves the
// model, or there are others and all have said what they have.
func acquainted(v *mesh.View, key string) bool {
	for _, h := range v.Holders(key) {
		if h.Member.Serving() {
			return true
		}
	}
	others := false
	for _, m := range v.Members() {
		if m.Status != mesh.Alive {
			continue
		}
		if m.Card == nil || m.Load == nil {
			return false
		}
		others = others || !m.Self
	}
	return others
}
