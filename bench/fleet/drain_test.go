package fleet_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// slow is a model of so many tokens a second that fits anywhere.
func slow(rate float64) ollamatest.Model {
	return ollamatest.Model{Name: "m", Size: 1 << 20, Decode: rate, Layers: 1, KVHeads: 1, HeadDim: 16}
}

// startGrace is start with a grace.
func startGrace(t *testing.T, policy router.Policy, grace time.Duration, specs ...fleet.Spec) *fleet.Fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f, err := fleet.Start(ctx, specs, fleet.Options{Policy: policy, Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// stream sends one answer's request and says when the client has its third
// frame.
func stream(t *testing.T, endpoint, path string, body map[string]any) (begun <-chan struct{}, done <-chan *heard) {
	t.Helper()
	flows, end := make(chan struct{}), make(chan *heard, 1)
	h := &heard{third: func() { close(flows) }}
	go func() {
		h.listen(t.Context(), endpoint, path, body)
		end <- h
	}()
	return flows, end
}

func flows(t *testing.T, begun <-chan struct{}) {
	t.Helper()
	select {
	case <-begun:
	case <-time.After(patience):
		t.Fatal("the stream does not begin")
	}
}

// Draining another node by name, over the admin API of any node: the whole mesh
// sends it nothing more within a second, what runs there is finished there, its
// own clients are served by others, and undrain takes it back.
func TestDrainingANode(t *testing.T) {
	f := start(t, byName, owner("a", "0.33.0", 4, slow(10)), owner("b", "0.33.0", 4, slow(0)), owner("c", "0.33.0", 4, slow(0)))
	ingress, a := f.Node(0), f.Node(1)
	begun, done := stream(t, ingress.Endpoint(), "/api/generate", routes[0].request("m", 25, nil))
	flows(t, begun)
	asked := time.Now()
	d, err := admin.Client{Base: ingress.Endpoint()}.Drain(t.Context(), "a", admin.DrainOrder{On: true})
	if err != nil || !d.Draining || d.Node != "a" || d.Running != 1 || len(d.Nowhere) != 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	seenByAll(t, f, func(v *mesh.View) bool { return memberOf(v, a).Draining() })
	seen := time.Since(asked)
	t.Logf("asked of another node, agreed and seen by all four within %v", seen.Round(time.Millisecond))
	if seen > time.Second {
		t.Errorf("it took %v, promised is a second", seen)
	}
	for _, n := range f.Nodes() { // a's own port among them
		for range 5 {
			if got := fleet.Ask(t.Context(), n.Endpoint(), "m", "x", 4, true); got.Err != nil || got.Node != "b" {
				t.Errorf("asked at %s: %+v", n.Spec.Name, got)
			}
		}
	}
	if h := <-done; h.whole() != nil || h.node != "a" || h.note != "" || ollamatest.Verify(h.text, 25) != nil {
		t.Errorf("what ran there: %v, %+v", h.whole(), h)
	}
	members, err := admin.Client{Base: f.Node(2).Endpoint()}.Members(t.Context())
	if err != nil || len(members.Members) != 4 {
		t.Fatal(err)
	}
	for _, m := range members.Members {
		if want := map[bool]string{true: "draining", false: "alive"}[m.Name == "a"]; m.Status != want {
			t.Errorf("%s is %s", m.Name, m.Status)
		}
	}
	if d, err = (admin.Client{Base: a.Endpoint()}).Drain(t.Context(), "", admin.DrainOrder{}); err != nil || d.Draining || d.Node != "a" {
		t.Fatalf("undrain, asked of itself: %+v, %v", d, err)
	}
	seenByAll(t, f, func(v *mesh.View) bool { return !memberOf(v, a).Draining() })
	if got := fleet.Ask(t.Context(), ingress.Endpoint(), "m", "x", 4, true); got.Err != nil || got.Node != "a" {
		t.Errorf("undrained: %+v", got)
	}
}

// Who asks for what cannot be is told so.
func TestDrainingWhatIsNotThere(t *testing.T) {
	f := start(t, nil, owner("a", "0.33.0", 4, slow(0)), owner("b", "0.33.0", 4, slow(0)))
	client := admin.Client{Base: f.Node(0).Endpoint()}
	if _, err := client.Drain(t.Context(), "nobody", admin.DrainOrder{On: true}); err == nil || !strings.Contains(err.Error(), "no member 'nobody'") {
		t.Errorf("a name that nobody has: %v", err)
	}
	f.Node(2).Kill()
	seenByAll(t, f, func(v *mesh.View) bool { return memberOf(v, f.Node(2)).Status == mesh.Failed })
	if _, err := client.Drain(t.Context(), "b", admin.DrainOrder{On: true}); err == nil || !strings.Contains(err.Error(), "b is not there (failed)") {
		t.Errorf("a dead node: %v", err)
	}
	// The last one that can: the operator is told what that means, and so is
	// every client.
	d, err := client.Drain(t.Context(), "a", admin.DrainOrder{On: true})
	if err != nil || len(d.Nowhere) != 1 || d.Nowhere[0] != "m:latest" {
		t.Errorf("the last node with a model: %+v, %v", d, err)
	}
	h := listen(t.Context(), f.Node(0).Endpoint(), "/api/generate", routes[0].request("m", 4, nil))
	if h.status != http.StatusServiceUnavailable || !strings.Contains(h.failure, "a: draining") {
		t.Errorf("a request meanwhile: %+v", h)
	}
}

// With now the node is free at once: what it does for others and for its own
// clients goes on elsewhere, and the client sees one answer.
func TestDrainingANodeNow(t *testing.T) {
	f := start(t, byName, owner("a", "0.33.0", 4, slow(20)), owner("b", "0.33.0", 4, slow(20)))
	a := f.Node(1)
	others, first := stream(t, f.Node(0).Endpoint(), "/api/chat", routes[1].request("m", 60, nil))
	own, second := stream(t, a.Endpoint(), "/v1/chat/completions", routes[2].request("m", 60, nil))
	// Nobody could go on with this one honestly: it stays and is finished.
	kept, third := stream(t, a.Endpoint(), "/api/generate", routes[0].request("m", 60, map[string]any{"temperature": 0.7, "format": "json"}))
	flows(t, others)
	flows(t, own)
	flows(t, kept)
	if _, err := (admin.Client{Base: a.Endpoint()}).Drain(t.Context(), "", admin.DrainOrder{On: true, Now: true}); err != nil {
		t.Fatal(err)
	}
	for name, done := range map[string]<-chan *heard{"through another node": first, "its own client's": second} {
		h := <-done
		if h.whole() != nil || ollamatest.Verify(h.text, 60) != nil || h.output != 60 || !strings.Contains(h.note, "exact") {
			t.Errorf("%s: %v, %+v", name, h.whole(), h)
		}
	}
	if h := <-third; h.whole() != nil || h.note != "" {
		t.Errorf("what cannot go on elsewhere: %v, %+v", h.whole(), h)
	}
	for _, n := range []*fleet.Node{f.Node(0), a} {
		if c := n.Router().Continued(); c.Breaks[router.ContinuedKey{Cause: "drained", Path: "exact"}] != 1 || c.Lost != 0 {
			t.Errorf("%s: %+v", n.Spec.Name, c)
		}
	}
}

// A node that stops finishes what fits into its grace, hands the rest over, and
// is gone. Its own clients may read on for as long again; who is not through by
// then gets an error of its dialect.
func TestStoppingANodeHandsOver(t *testing.T) {
	specs := []fleet.Spec{owner("a", "0.33.0", 8, slow(20)), owner("b", "0.33.0", 8, slow(20)), {Name: "c", Hardware: box()}}
	f := startGrace(t, byName, 3*time.Second, specs...)
	a := f.Node(0)
	var begun []<-chan struct{}
	var ends []<-chan *heard
	for _, s := range []struct {
		endpoint string
		route    int
		tokens   int
	}{
		{f.Node(2).Endpoint(), 1, 160}, // 8 s, for another node
		{f.Node(2).Endpoint(), 0, 12},  // 0.6 s
		{a.Endpoint(), 2, 70},          // 3.5 s, for its own client
		{a.Endpoint(), 3, 400},         // 20 s: too long for a client of a node that stops
	} {
		b, e := stream(t, s.endpoint, routes[s.route].path, routes[s.route].request("m", s.tokens, nil))
		begun, ends = append(begun, b), append(ends, e)
	}
	for _, b := range begun {
		flows(t, b)
	}
	stopped := time.Now()
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped within %v, of 3 s of grace", time.Since(stopped).Round(time.Millisecond))
	long, short, own, late := <-ends[0], <-ends[1], <-ends[2], <-ends[3]
	if long.whole() != nil || ollamatest.Verify(long.text, 160) != nil || long.node != "a" || !strings.Contains(long.note, "exact") {
		t.Errorf("handed over: %v, %+v", long.whole(), long)
	}
	if short.whole() != nil || ollamatest.Verify(short.text, 12) != nil || short.note != "" {
		t.Errorf("finished: %v, %+v", short.whole(), short)
	}
	if own.whole() != nil || ollamatest.Verify(own.text, 70) != nil {
		t.Errorf("its own client's: %v, %+v", own.whole(), own)
	}
	if late.broken() != nil || !strings.Contains(late.failure, "being stopped") {
		t.Errorf("its own client's that takes too long: %v, %q", late.broken(), late.failure)
	}
	if c := f.Node(2).Router().Continued(); c.Breaks[router.ContinuedKey{Cause: "drained", Path: "exact"}] != 1 || len(c.Breaks) != 1 {
		t.Errorf("%+v", c)
	}
	seenByAll(t, f, func(v *mesh.View) bool { return memberOf(v, a).Status == mesh.Left })
}

// seenByAll waits until every node that runs sees what is ok.
func seenByAll(t *testing.T, f *fleet.Fleet, ok func(*mesh.View) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, n := range f.Nodes() {
		if !n.Running() {
			continue
		}
		if _, err := n.Mesh().Wait(ctx, ok); err != nil {
			t.Fatalf("never seen by %s", n.Spec.Name)
		}
	}
}

func memberOf(v *mesh.View, n *fleet.Node) *mesh.Member {
	m, ok := v.Member(n.ID())
	if !ok {
		return &mesh.Member{}
	}
	return m
}
