package sim

import "github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"

// How long the others take to know of a death: a reset comes at once, a machine
// that is unplugged is missed after four signs of life before the first token
// and after ten seconds in a stream (router: silence, doubted), and membership
// knows within some seconds.
const (
	resetSeen   = 0.01
	silenceSeen = 4.0
	streamSeen  = 10.0
	deathKnown  = 3.0
)

// bereave moves the requests of a machine that died.
func (s *Sim) bereave(n *node, lost []*request) {
	s.out.lost += len(lost)
	for _, r := range lost {
		wait := resetSeen
		if s.DiesSilent {
			wait = silenceSeen
			if r.first > 0 {
				wait = streamSeen
			}
		}
		if j := r.ticket.job; j != nil {
			r.got += float64(int(j.written)) // the client has these
		}
		r.ticket = nil
		r.signs++
		s.after(wait, func() {
			r.settled()
			r.in.ledger.Failed(n.id, moment(s.now))
			r.tried = append(r.tried, n)
			r.dispatch()
		})
	}
	s.after(deathKnown, func() { s.tell(n) })
}

// tell lets all entries know by membership whether the node lives.
func (s *Sim) tell(n *node) {
	for _, e := range s.entries {
		h := &e.heard[n.index]
		h.status, h.since = mesh.Failed, s.now
		if n.up {
			h.status = mesh.Alive
		}
		e.view = nil
	}
}

// expelled is a request that its gate pushed out while it waited.
func (s *Sim) expelled(r *request) {
	r.ticket = nil
	r.signs++
	s.after(0, func() {
		r.settled()
		r.tried = append(r.tried, r.at)
		r.dispatch()
	})
}

func (s *Sim) byID(id mesh.NodeID) *node {
	for _, n := range s.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}
