package metrics

import (
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

// Config makes Metrics.
type Config struct {
	// View is the newest picture of the mesh, asked for at every scrape.
	View func() *mesh.View
	// Awareness is that of *mesh.Mesh.
	Awareness func() int
	// Running counts the requests of clients that this node works on now.
	Running func() int
	Version string
}

// Metrics counts requests and answers scrapes.
type Metrics struct {
	registry *prometheus.Registry

	requests      *prometheus.CounterVec
	outcomes      *prometheus.CounterVec
	attempts      *prometheus.CounterVec
	continuations *prometheus.CounterVec
	tokens        *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	first         *prometheus.HistogramVec
	perToken      *prometheus.HistogramVec

	models, owners *names
	lines          lines
}

// Buckets in seconds. A 72B model on a CPU is loaded for minutes and writes
// for more, so they reach to 20 minutes (OpenTelemetry's for generative AI end
// at 82 s, and at 10 s for the first token).
var (
	durations = []float64{0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 300, 600, 1200}
	perToken  = []float64{0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5}
)

// New makes Metrics with a registry of their own.
func New(c Config) *Metrics {
	registry := prometheus.NewRegistry()
	make := promauto.With(registry)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return make.NewCounterVec(prometheus.CounterOpts{Namespace: "kage", Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return make.NewHistogramVec(prometheus.HistogramOpts{Namespace: "kage", Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		registry: registry,
		requests: counter("requests_total",
			"Requests of this node's clients, by route, model, node that answered and HTTP status (0: the client left before there was one).",
			"route", "model", "owner", "code"),
		outcomes: counter("request_outcomes_total",
			"Requests by what their client got; cut is an answer that ended in an error after it had begun.",
			"route", "outcome"),
		attempts: counter("attempts_total",
			"Tries at nodes, by node and how they ended.", "owner", "result"),
		continuations: counter("continuations_total",
			"Answers that broke off and were taken on by another node, by what broke them.", "reason"),
		tokens: counter("tokens_total",
			"Tokens read (prompt) and written (output).", "model", "kind"),
		duration: histogram("request_duration_seconds",
			"Time from request to the end of its whole answer.", durations, "model", "owner"),
		first: histogram("time_to_first_token_seconds",
			"Time from request to the first byte of its answer: queue, cold load and reading the prompt.", durations, "model", "owner"),
		perToken: histogram("time_per_output_token_seconds",
			"Time per token while an answer is written.", perToken, "model", "owner"),
		models: newNames(), owners: newNames(),
	}
	make.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "kage", Name: "in_flight_requests", Help: "Requests of this node's clients that it works on now, wherever they run.",
	}, func() float64 { return float64(c.Running()) })
	make.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "kage", Name: "gossip_health_score", Help: "How far this node is from keeping up with gossip, 0 is well: it is starved, or its network loses packets.",
	}, func() float64 { return float64(c.Awareness()) })
	make.NewGauge(prometheus.GaugeOpts{
		Namespace: "kage", Name: "build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{
			"version": c.Version, "goversion": runtime.Version(), "protocol": strconv.Itoa(mesh.Protocol),
		},
	}).Set(1)
	registry.MustRegister(
		view{c.View},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Handler serves the page.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// model is the label of a request's model: what clients made up is "other".
func (m *Metrics) model(r router.Record) string {
	switch {
	case r.Model == "":
		return ""
	case !r.Known:
		return other
	}
	return m.models.bounded(r.Model)
}

// maxNames is how many values a label that names models or nodes may have over
// the life of a process.
const maxNames = 500

const other = "other"

// names are the values that a label has had.
type names struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

func newNames() *names { return &names{seen: map[string]struct{}{}} }

func (n *names) bounded(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	name = strings.ToValidUTF8(name, "?")
	if _, ok := n.seen[name]; ok {
		return name
	}
	if len(n.seen) >= maxNames {
		return other
	}
	n.seen[name] = struct{}{}
	return name
}
