package router

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// Explanation says where a request goes and why: every node, the candidates in
// the order in which they would be asked, then the others with the reason. Times
// are seconds.
type Explanation struct {
	At           time.Time `json:"at"`
	ID           string    `json:"id"` // of the request; it decides near ties
	Model        string    `json:"model"`
	PromptTokens int       `json:"prompt_tokens"`
	OutputTokens int       `json:"output_tokens"` // upper bound asked for, 0 none
	Context      int       `json:"num_ctx"`       // asked for, 0 none
	Choice       string    `json:"choice"`        // name of the node that is asked first, "" none
	Nodes        []Verdict `json:"nodes"`
}

// Verdict is one node in an Explanation.
type Verdict struct {
	Node   string `json:"node"`
	NodeID string `json:"node_id"`
	Rank   int    `json:"rank"` // 1 is asked first; 0: refused

	// Of a candidate.
	Loaded  bool    `json:"loaded"` // the model is in its memory
	Fit     string  `json:"fit,omitempty"`
	Total   float64 `json:"total_seconds"` // what the choice minimises
	Wait    float64 `json:"wait_seconds"`
	Load    float64 `json:"load_seconds"`
	Prefill float64 `json:"prefill_seconds"`
	Decode  float64 `json:"decode_seconds"`
	Network float64 `json:"network_seconds"`
	Late    float64 `json:"late_seconds"`    // what a long stay weighs beyond its length
	Harm    float64 `json:"harm_seconds"`    // delay caused to requests that are there
	Trouble float64 `json:"trouble_seconds"` // price of its recent failures

	// Of one that is refused.
	Reason Reason `json:"reason,omitempty"`
	Text   string `json:"text,omitempty"`       // the reason in words and numbers
	Need   uint64 `json:"need_bytes,omitempty"` // with ReasonTooBig
	Have   uint64 `json:"have_bytes,omitempty"`
}

// Explain says where q would go right now.
func (r *Router) Explain(q Request) Explanation { return r.explanation(q, r.Snapshot(q)) }

// explanation is pure but for the policy: the same request in the same picture
// gives the order in which it was, or would be, placed.
func (r *Router) explanation(q Request, s Snapshot) Explanation {
	candidates, refusals := Explain(q, s)
	return explained(q, s, r.config.Policy(q, s), candidates, refusals)
}

func explained(q Request, s Snapshot, order, candidates []Candidate, refusals []Refusal) Explanation {
	e := Explanation{
		At: s.Now, ID: q.ID, Model: q.Key, PromptTokens: q.PromptTokens,
		OutputTokens: q.OutputTokens, Context: q.Context, Nodes: []Verdict{},
	}
	said := map[mesh.NodeID]bool{}
	for i, c := range order {
		said[c.ID] = true
		e.Nodes = append(e.Nodes, candidateVerdict(q, c, i+1))
	}
	if len(order) > 0 {
		e.Choice = order[0].Name
	}
	var refused []Verdict
	// Of several reasons the telling one is said: a node that has the model and
	// cannot hold it does not "lack" it.
	slices.SortStableFunc(refusals, func(a, b Refusal) int {
		return cmp.Compare(weightOf(b.Reason), weightOf(a.Reason))
	})
	for _, c := range candidates {
		if !said[c.ID] {
			said[c.ID] = true
			refused = append(refused, Verdict{
				Node: c.Name, NodeID: string(c.ID), Reason: ReasonPassedOver,
				Text: "could serve it, and the policy passes it over",
			})
		}
	}
	for _, f := range refusals {
		if m := f.Member; !said[m.ID] {
			said[m.ID] = true
			refused = append(refused, Verdict{
				Node: m.Name, NodeID: string(m.ID), Reason: f.Reason, Text: refusalText(f, s.Now),
				Need: f.Need, Have: f.Have,
			})
		}
	}
	slices.SortStableFunc(refused, func(a, b Verdict) int { return strings.Compare(a.Node, b.Node) })
	e.Nodes = append(e.Nodes, refused...)
	return e
}

// ReasonPassedOver is the reason of a node that could serve a request by its
// estimate and that the policy leaves out all the same.
const ReasonPassedOver Reason = "passed over"

func weightOf(r Reason) int {
	if r == ReasonNoModel {
		return 0
	}
	return 1
}

func candidateVerdict(q Request, c Candidate, rank int) Verdict {
	est := c.Estimate
	v := Verdict{
		Node: c.Name, NodeID: string(c.ID), Rank: rank, Fit: est.Class.String(),
		Total: est.Total().Seconds(), Wait: est.Wait.Seconds(), Load: est.Load.Seconds(),
		Prefill: est.Prefill.Seconds(), Decode: est.Decode.Seconds(), Network: est.Network.Seconds(),
		Late: est.Lateness().Seconds(), Harm: est.Harm.Seconds(), Trouble: est.Trouble.Seconds(),
	}
	if l := c.Member.Load.Model(q.Key); l != nil {
		v.Loaded = l.Resident
	}
	return v
}

// refusalText words a refusal for people.
func refusalText(f Refusal, now time.Time) string {
	m := f.Member
	switch {
	case f.Reason == ReasonTooBig && f.Need > 0:
		return fmt.Sprintf("would not fit: needs %s, has %s", hardware.FormatSize(f.Need), hardware.FormatSize(f.Have))
	case m.Status == mesh.Left:
		return "left " + ago(now.Sub(m.Since))
	case m.Status != mesh.Alive:
		return "failed " + ago(now.Sub(m.Since))
	case f.Reason == ReasonNoOllama:
		return "its Ollama does not answer"
	case f.Reason == ReasonRemote:
		return "has it as a cloud model only"
	}
	return string(f.Reason)
}

// ago words a past moment in one number.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h ago", int(d.Hours()))
}
