package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// What explain says of a request before it is sent is where it goes: of models
// that several nodes have, from every entry, warm and cold, with a node that
// drains and one that died.
func TestExplainAgrees(t *testing.T) {
	const requests = 200
	f := startFleet(t, Household(8, 2000))
	models := []string{"qwen2.5:3b", "qwen2.5:32b", "qwen2.5:3b", "qwen2.5:72b"}
	owners := map[string]int{}
	// Explanation and request shall see the same picture from the first on.
	awaitViews(t, f, func(v *mesh.View) bool {
		heard := 0
		for _, m := range v.Members() {
			if m.Load != nil && m.Load.Up {
				heard++
			}
		}
		return heard == 8
	})
	for i := range requests {
		switch i {
		case requests / 3:
			f.Node(6).Mesh().SetDraining(true)
			awaitViews(t, f, func(v *mesh.View) bool { return member(v, f.Node(6)).Draining() })
		case requests / 2:
			f.Node(2).Kill()
			awaitViews(t, f, func(v *mesh.View) bool { return member(v, f.Node(2)).Status == mesh.Failed })
		}
		entry := f.Node(i % 2)
		id := fmt.Sprint("request-", i)
		body := fmt.Appendf(nil, `{"model":%q,"prompt":"question %d","stream":%v,"options":{"num_predict":8}}`, models[i%len(models)], i, i%3 == 0)
		peek, werr := wire.Parse(wire.Generate, body)
		if werr != nil {
			t.Fatal(werr)
		}
		said, err := admin.Client{Base: entry.Endpoint()}.Explain(t.Context(), admin.Question{
			Model: peek.Model, PromptTokens: peek.PromptTokens, OutputTokens: peek.NumPredict, Context: peek.NumCtx, ID: id,
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(said.Nodes) != 8 {
			t.Fatalf("request %d: %d of 8 nodes explained: %+v", i, len(said.Nodes), said)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, entry.Endpoint()+"/api/generate", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Kage-Request-Id", id)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("request %d: %s, %v", i, resp.Status, err)
		}
		_ = resp.Body.Close()
		went := first(t, entry, id)
		if went.Explanation.Choice != said.Choice || went.Request.Attempts[0].Node != said.Choice {
			t.Errorf("request %d for %s: explained %s, went to %+v\n%s", i, peek.Model, said.Choice, went.Request.Attempts, pretty(said))
		}
		owners[said.Choice]++
		// The next question and its request shall see the same picture: the one
		// in which this request has ended.
		awaitView(t, f.Node((i+1)%2), func(v *mesh.View) bool {
			owner, ok := v.Lookup(said.Choice)
			loaded := ok && owner.Load.Model(peek.Model) != nil && owner.Load.Model(peek.Model).Resident
			return loaded && owner.Load.Running == 0
		})
	}
	t.Logf("%d requests: %v", requests, owners)
	if len(owners) < 2 {
		t.Errorf("all went to %v: nothing was decided", owners)
	}
}

// awaitViews waits until both entries see it.
func awaitViews(t *testing.T, f *Fleet, ok func(*mesh.View) bool) {
	t.Helper()
	awaitView(t, f.Node(0), ok)
	awaitView(t, f.Node(1), ok)
}

func awaitView(t *testing.T, n *Node, ok func(*mesh.View) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := n.Mesh().Wait(ctx, ok); err != nil {
		t.Fatalf("not seen by %s within 20 s", n.Spec.Name)
	}
}

func member(v *mesh.View, n *Node) *mesh.Member {
	m, ok := v.Member(n.ID())
	if !ok {
		return &mesh.Member{}
	}
	return m
}

// first asks a node what it did with a request, once it knows the end of it:
// the client may know that a moment earlier.
func first(t *testing.T, n *Node, id string) (e admin.Explanation) {
	t.Helper()
	waitFor(t, "the end of "+id, func() bool {
		var err error
		if e, err = (admin.Client{Base: n.Endpoint()}).Explain(t.Context(), admin.Question{Request: id}); err != nil {
			t.Fatal(err)
		}
		return e.Request != nil && e.Request.Outcome != ""
	})
	if e.Request.ID != id || e.Request.Outcome != router.OutcomeOK || len(e.Request.Attempts) == 0 {
		t.Fatalf("record of %s: %+v", id, e.Request)
	}
	return e
}

func pretty(v any) []byte {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return []byte(err.Error())
	}
	return text
}
