package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

func page(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func newMetrics(v *mesh.View) *Metrics {
	return New(Config{View: func() *mesh.View { return v }, Running: func() int { return 3 }, Awareness: func() int { return 2 }, Version: "1.2.3"})
}

func TestRequestsAreCounted(t *testing.T) {
	m := newMetrics(meshtest.View())
	ok := router.Record{
		Route: "chat", Model: "m:latest", Known: true, Inference: true, Stream: true, Owner: "a", Status: 200,
		Outcome: router.OutcomeOK, PromptTokens: 10, OutputTokens: 20, First: 45, Took: 900, Rate: 4,
		Attempts: []router.Attempt{
			{Node: "b", Phase: "dial", Result: "unreachable"},
			{Node: "c", Phase: "stream", Result: "cut"},
			{Node: "a", Phase: "stream", Result: router.ResultOK},
		},
	}
	m.Observe(ok)
	cut := ok
	cut.Outcome, cut.Attempts = router.OutcomeCut, []router.Attempt{{Node: "a", Phase: "stream", Result: "cut"}}
	m.Observe(cut)
	m.Observe(router.Record{Route: "tags", Status: 200, Outcome: router.OutcomeOK})
	m.Observe(router.Record{Route: "chat", Inference: true, Status: 404, Outcome: router.OutcomeNotFound, Model: "made-up"})
	got := page(t, m)
	for _, want := range []string{
		`kage_requests_total{code="200",model="m:latest",owner="a",route="chat"} 2`,
		`kage_requests_total{code="200",model="",owner="",route="tags"} 1`,
		`kage_requests_total{code="404",model="other",owner="",route="chat"} 1`,
		`kage_request_outcomes_total{outcome="cut",route="chat"} 1`,
		`kage_attempts_total{owner="b",result="unreachable"} 1`,
		`kage_attempts_total{owner="a",result="cut"} 1`,
		`kage_continuations_total{reason="cut"} 1`,
		`kage_tokens_total{kind="output",model="m:latest"} 40`,
		`kage_time_to_first_token_seconds_bucket{model="m:latest",owner="a",le="40"} 0`,
		`kage_time_to_first_token_seconds_bucket{model="m:latest",owner="a",le="80"} 1`,
		`kage_request_duration_seconds_bucket{model="m:latest",owner="a",le="600"} 0`,
		`kage_request_duration_seconds_bucket{model="m:latest",owner="a",le="1200"} 1`,
		`kage_time_per_output_token_seconds_sum{model="m:latest",owner="a"} 0.25`,
		`kage_in_flight_requests 3`,
		`kage_gossip_health_score 2`,
		`kage_build_info{`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(got, "made-up") {
		t.Error("a name that a client made up is a label")
	}
}

// Names that clients, or strange nodes, make up do not make the page grow.
func TestLabelsAreBounded(t *testing.T) {
	m := newMetrics(meshtest.View())
	for i := range 3 * maxNames {
		m.Observe(router.Record{
			Route: "chat", Model: fmt.Sprint("model-", i), Known: true, Inference: true, Owner: fmt.Sprint("node-", i),
			Status: 200, Outcome: router.OutcomeOK,
		})
	}
	m.Observe(router.Record{Route: "chat", Model: "\xff", Known: true, Owner: "\xff", Status: 200})
	got := page(t, m)
	if n := strings.Count(got, "\nkage_requests_total{"); n != maxNames+1 {
		t.Errorf("%d series of kage_requests_total, want %d", n, maxNames+1)
	}
	if !strings.Contains(got, `kage_requests_total{code="200",model="other",owner="other",route="chat"} `+fmt.Sprint(2*maxNames+1)) {
		t.Error("the rest is not counted as other")
	}
}

func TestTheMeshAsSeenFromHere(t *testing.T) {
	busy := meshtest.Member("busy", meshtest.With(func(m *mesh.Member) {
		m.RTT, m.Heard = 3*time.Millisecond, time.Now().Add(-time.Minute)
		m.Info.VRAM, m.Info.RAM = 24<<30, 64<<30
	}), meshtest.LoadOf(func(l *mesh.Load) {
		l.Running, l.Waiting, l.FreeVRAM, l.Written = 2, 5, 1<<30, 777
		l.Models = []mesh.ModelLoad{
			{Key: "m:latest", Resident: true, Size: 10, SizeVRAM: 4}, {Key: "n:latest", Decode: 3},
		}
	}))
	drains := meshtest.Member("drains", meshtest.LoadOf(func(l *mesh.Load) { l.Draining, l.Up = true, false }))
	got := page(t, newMetrics(meshtest.View(
		busy, drains, meshtest.Member("dead", meshtest.Gone(mesh.Failed)), meshtest.Member("strange\xff", meshtest.NoCard()),
	)))
	for _, want := range []string{
		`kage_members{state="alive"} 2`, `kage_members{state="draining"} 1`, `kage_members{state="failed"} 1`, `kage_members{state="left"} 0`,
		`kage_node_in_flight_requests{node="busy"} 2`, `kage_node_queued_requests{node="busy"} 5`,
		`kage_node_vram_bytes{kind="free",node="busy"} 1.073741824e+09`, `kage_node_vram_bytes{kind="total",node="busy"} 2.5769803776e+10`,
		`kage_node_model_bytes{memory="vram",model="m:latest",node="busy"} 4`, `kage_node_model_bytes{memory="ram",model="m:latest",node="busy"} 6`,
		`kage_node_ollama_up{node="busy"} 1`, `kage_node_ollama_up{node="drains"} 0`, `kage_node_rtt_seconds{node="busy"} 0.003`,
		`kage_node_report_age_seconds{node="busy"} 60.`, `kage_node_written_tokens_total{node="busy"} 777`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	for _, not := range []string{`node="dead"`, `model="n:latest"`, `kage_node_vram_bytes{kind="total",node="drains"}`} {
		if strings.Contains(got, not) {
			t.Errorf("the page has %s", not)
		}
	}
}
