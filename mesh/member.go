package mesh

import (
	"context"
	"net/netip"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// NodeID names one node for ever: it is derived from the node's public key
// (see [identity.NodeID]), so two machines with the same hostname differ and a
// node cannot take another's id without its private key.
type NodeID = identity.NodeID

// Status is what membership says of a node.
type Status string

// The states of a member. Draining is not one of them: a draining member is
// alive and finishes its work (see [Member.Draining]).
const (
	Alive  Status = "alive"
	Failed Status = "failed" // probes unanswered; it may come back by itself
	Left   Status = "left"   // said goodbye
)

// Info is the part of a member that fits its gossip tags (512 bytes in all):
// who it is and where, and enough of its hardware to show it before its
// [Card] has been fetched.
type Info struct {
	Protocol int    `json:"protocol"`          // peer protocol, see [Protocol]
	Version  string `json:"version"`           // kage-mesh version
	Hostname string `json:"hostname"`          // name as the node gave it; not unique
	Role     string `json:"role"`              // gpu, cpu, router or a configured word
	PeerPort int    `json:"peer_port"`         // TLS port for forwards
	APIPort  int    `json:"api_port"`          // client port, 0 when bound to loopback only
	GPU      string `json:"gpu"`               // nvidia, amd, intel, apple or cpu
	VRAM     uint64 `json:"vram,omitzero"`     // bytes, 0 unknown or none
	RAM      uint64 `json:"ram,omitzero"`      // bytes, 0 unknown
	Unified  bool   `json:"unified,omitzero"`  // VRAM and RAM are the same bytes
	Big      bool   `json:"72b_capable"`       // can hold a 72B Q4 model at 4k context
	Ollama   string `json:"ollama,omitzero"`   // version of the local Ollama, "" when there is none now
	Draining bool   `json:"draining,omitzero"` // takes no new work
	Card     string `json:"card,omitzero"`     // digest of the Card; a change means: fetch it again
}

// Card is what a node can do, in full: too big for tags, so tags carry its
// digest and peers fetch the body over the peer link when the digest changes.
// A Card is immutable once published.
type Card struct {
	Hardware hardware.Inventory `json:"hardware"`
	Catalog  Catalog            `json:"catalog"`
	Ollama   string             `json:"ollama,omitzero"` // version, "" when unreachable
	Parallel int                `json:"parallel"`        // OLLAMA_NUM_PARALLEL: slots per loaded model, at least 1
	MaxLoad  int                `json:"max_loaded"`      // OLLAMA_MAX_LOADED_MODELS, 0 unknown
	Cloud    bool               `json:"cloud,omitzero"`  // the mesh may use this node's account at ollama.com
}

// Member is a node as this node knows it. A Member is immutable; a change
// makes a new one in the next [View].
type Member struct {
	ID     NodeID         `json:"id"`
	Name   string         `json:"name"` // unique in a View: the hostname, with "-" and 4 letters of the id where two share it
	Addr   netip.AddrPort `json:"addr"` // gossip address
	Status Status         `json:"status"`
	Since  time.Time      `json:"since"` // when this status began, our clock
	Self   bool           `json:"self,omitzero"`
	Info   Info           `json:"info"`
	Card   *Card          `json:"card,omitempty"` // nil until fetched
	Load   *Load          `json:"load,omitempty"` // nil before the first report
	Heard  time.Time      `json:"heard,omitzero"` // our clock when Load arrived
	RTT    time.Duration  `json:"rtt,omitzero"`   // ns, from Serf's network coordinates; 0 unknown

	ctx context.Context
}

// Context ends when this incarnation of the member leaves or fails;
// [context.Cause] is then [ErrMemberLeft] or [ErrMemberFailed]. The context of
// a member that is not alive has already ended. Members made by hand (tests,
// the simulator) have a context that never ends.
func (m *Member) Context() context.Context {
	if m.ctx == nil {
		return context.Background()
	}
	return m.ctx
}

// WithContext returns a copy of m whose lifetime is ctx.
func (m *Member) WithContext(ctx context.Context) *Member {
	c := *m
	c.ctx = ctx
	return &c
}

// Peer is the address of the member's TLS listener.
func (m *Member) Peer() netip.AddrPort {
	return netip.AddrPortFrom(m.Addr.Addr(), uint16(m.Info.PeerPort)) //nolint:gosec // at most 65535, as read from tags
}

// Draining reports whether the member asked for no new work, by tag or by the
// (usually fresher) load report.
func (m *Member) Draining() bool {
	return m.Info.Draining || (m.Load != nil && m.Load.Draining)
}

// Serving reports whether new inference may be sent to the member: alive, not
// draining, and its Ollama answers.
func (m *Member) Serving() bool {
	if m.Status != Alive || m.Draining() || m.Card == nil {
		return false
	}
	if m.Load != nil {
		return m.Load.Up
	}
	return m.Info.Ollama != ""
}

// Parallel is the number of requests the member runs at once per loaded model,
// at least 1.
func (m *Member) Parallel() int {
	if m.Card == nil || m.Card.Parallel < 1 {
		return 1
	}
	return m.Card.Parallel
}
