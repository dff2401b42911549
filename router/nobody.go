package router

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// explainNobody words why no member may serve a request: 404 when no node has
// the model, with what there is instead; 503 when those that have it, or had it
// when they died, cannot serve it now.
func explainNobody(f *flight, v *mesh.View, refusals []Refusal) *wire.Error {
	var reasons []string
	var tooBig, away bool
	for _, refusal := range refusals {
		name := refusal.Member.Name
		switch refusal.Reason {
		case ReasonNoModel:
			continue
		case ReasonGone:
			if diedWith(refusal.Member, f.Key) {
				away = true
				reasons = append(reasons, name+" has died")
			}
		case ReasonTooBig:
			tooBig = true
			reasons = append(reasons, fmt.Sprintf("%s needs %s and has %s", name,
				hardware.FormatSize(refusal.Need), hardware.FormatSize(refusal.Have)))
		case ReasonRemote:
			reasons = append(reasons, name+" has it as a cloud model only")
		default:
			if _, holds := holder(v, f.Key, refusal.Member.ID); holds {
				away = true
				reasons = append(reasons, name+": "+string(refusal.Reason))
			}
		}
	}
	if len(reasons) == 0 && f.route.Kind == wire.Show {
		// In Ollama's own words: by them its command decides to pull.
		return wire.ErrModelNotFound(f.route.Kind, f.peek.Model, nil)
	}
	if len(reasons) == 0 {
		return wire.ErrModelNotFound(f.route.Kind, f.peek.Model, hints(f.peek.Model, v))
	}
	var retry time.Duration
	if away && !tooBig {
		retry = retrySoon // a draining or restarting node is soon back
	}
	return wire.ErrNoNode(f.peek.Model, strings.Join(reasons, "; "), retry)
}

// diedWith reports whether m had the model and did not say goodbye: it is
// expected back, and so is the model.
func diedWith(m *mesh.Member, key string) bool {
	return m.Status == mesh.Failed && m.Card != nil &&
		slices.ContainsFunc(m.Card.Catalog, func(have mesh.Model) bool { return have.Key == key })
}

// hints are the models to name to somebody who asked for one that is not
// there: near ones, else a few of those there are.
func hints(model string, v *mesh.View) []string {
	have := v.Models()
	if near := wire.Near(model, have); len(near) > 0 {
		return near
	}
	return have[:min(len(have), 8)]
}

func holder(v *mesh.View, key string, id mesh.NodeID) (mesh.Holder, bool) {
	for _, h := range v.Holders(key) {
		if h.Member.ID == id {
			return h, true
		}
	}
	return mesh.Holder{}, false
}
