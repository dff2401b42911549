package router

import (
	"slices"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// Request is what placement may know of a client's request: facts, no text.
type Request struct {
	ID           string
	Key          string    // canonical model name
	PromptTokens int       // estimate from the body's size
	OutputTokens int       // upper bound asked for (num_predict, max_tokens); 0 when the caller set none
	Context      int       // num_ctx asked for; 0: the model's or the node's default
	Prefixes     []uint64  // hashes of the conversation at its message boundaries, shortest first
	PrefixTokens []int     // tokens of each of them, an estimate
	Conversation uint64    // the same for all turns of a conversation; 0 none
	Embedding    bool      // no decode phase
	Batch        bool      // may wait behind interactive requests
	Client       string    // whom fairness counts it for
	Arrived      time.Time // when the ingress had read it

	// What restricts the nodes, whatever the policy.
	Read  bool        // a question about the model: any holder answers, this node first
	Cloud bool        // the model runs at ollama.com
	Own   bool        // the caller is on this machine, so this node's account is its own
	Only  mesh.NodeID // the caller named a node; "" any
	Since string      // first Ollama version with the route; "" every one has it
	// Weights are those that the conversation has been held with so far, none
	// for a new one; Begun, that a part of the answer has come from them.
	Weights Weights
	Begun   bool
}

// Work is one request that this router sent to a node and that the node's last
// Load report cannot have counted yet.
type Work struct {
	Key          string
	PromptTokens int
	OutputTokens int // expected
	Sent         time.Time
}

// Sent is how many requests for a model are on their way to a node.
type Sent struct {
	Node mesh.NodeID
	Key  string
	N    int
}

// Cached is how many tokens of a prompt a node is believed to have in its KV
// cache.
type Cached struct {
	Node   mesh.NodeID
	Tokens int // above 0
}

// Snapshot is everything that Select looks at, gathered once per request.
type Snapshot struct {
	*mesh.View
	Now time.Time
	// Outstanding corrects stale reports by what this router itself has sent;
	// sorted by node.
	Outstanding []Sent
	// Trouble is the expected cost of a node's recent failures: added to its
	// estimate, so that a node that fails fast does not look idle.
	Trouble map[mesh.NodeID]time.Duration
	// Cached is where the beginning of the prompt is; a node once.
	Cached []Cached
	// Seed makes the choice among near ties: a draw per request, or the
	// conversation, so that all its turns draw alike at every entry.
	Seed uint64
	// Room is memory for the list that Select returns, which is in it until Room
	// is used again; nil, or less than one for each holder: it makes its own.
	Room []Candidate
}

// sent is what is on its way to a node.
func (s *Snapshot) sent(to mesh.NodeID) []Sent {
	i, ok := slices.BinarySearchFunc(s.Outstanding, to, func(x Sent, id mesh.NodeID) int { return strings.Compare(string(x.Node), string(id)) })
	if !ok {
		return nil
	}
	n := i
	for n < len(s.Outstanding) && s.Outstanding[n].Node == to {
		n++
	}
	return s.Outstanding[i:n]
}

// cached is how much of the prompt a node has.
func (s *Snapshot) cached(at mesh.NodeID) int {
	for i := range s.Cached {
		if s.Cached[i].Node == at {
			return s.Cached[i].Tokens
		}
	}
	return 0
}

// Estimate is what a request is expected to cost on one node.
type Estimate struct {
	Wait    time.Duration // until a slot is free
	Load    time.Duration // cold load, with what must be evicted
	Prefill time.Duration
	Decode  time.Duration
	Network time.Duration
	Harm    time.Duration // delay caused to requests already there
	Trouble time.Duration // expected cost of recent failures
	Class   hardware.Class
	Age     time.Duration // of the request: how long ago it arrived
	Slow    float64       // how much longer than alone it takes there, for what else runs
}

// Total is the cost that Select minimises: the request's own completion time,
// what it weighs beyond its length, and the delay that it causes to others.
func (e Estimate) Total() time.Duration { return e.total(e.Age.Seconds()) }

// total is Total; age is that of the request in seconds, the same for all nodes.
func (e *Estimate) total(age float64) time.Duration {
	return e.Completion() + e.lateness(age) + e.Harm + e.Trouble
}

// Completion is the expected time until the request itself is answered.
func (e *Estimate) Completion() time.Duration {
	return e.Wait + e.Load + e.Prefill + e.Decode + e.Network
}

// Candidate is a member that may serve the request, with its estimate.
type Candidate struct {
	*mesh.Member
	Model    *mesh.Model
	Estimate Estimate

	version int // where nodes have different weights by the name: the lowest is what the request is to have; else 0
}

// Refusal says why a member is no candidate.
type Refusal struct {
	Member *mesh.Member
	Reason Reason
	Need   uint64 // bytes, with ReasonTooBig
	Have   uint64 // bytes, with ReasonTooBig
}

// Reason is why a member is no candidate; a bounded set, fit for metrics.
type Reason string

// The reasons of a Refusal.
const (
	ReasonGone     Reason = "not alive"
	ReasonDraining Reason = "draining"
	ReasonNoOllama Reason = "no ollama"
	ReasonNoModel  Reason = "lacks model"
	ReasonRemote   Reason = "cloud model"
	ReasonTooBig   Reason = "would not fit"
	ReasonEjected  Reason = "ejected"
)

// Policy orders the members that may serve a request, best first. Select is
// the default; bench compares others. A Policy is pure: equal arguments give
// equal results.
type Policy func(Request, Snapshot) []Candidate
