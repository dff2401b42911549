package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// view says what the mesh looks like from here, at the moment of the scrape.
type view struct{ now func() *mesh.View }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("kage", "", name), help, labels, nil)
}

var (
	membersDesc   = describe("members", "Nodes by state, as this node sees them.", "state")
	changesDesc   = describe("view_changes_total", "Changes of this node's picture of the mesh since it started.")
	upDesc        = describe("node_ollama_up", "Whether the node's Ollama answers.", "node")
	inFlightDesc  = describe("node_in_flight_requests", "Requests that hold a place at the node's Ollama.", "node")
	queueDesc     = describe("node_queued_requests", "Requests that wait at the node for a place.", "node")
	vramDesc      = describe("node_vram_bytes", "GPU memory of the node.", "node", "kind")
	ramDesc       = describe("node_ram_bytes", "Main memory of the node.", "node", "kind")
	diskDesc      = describe("node_disk_free_bytes", "Free disk for models at the node.", "node")
	modelDesc     = describe("node_model_bytes", "Memory that a loaded model takes at the node.", "node", "model", "memory")
	writtenDesc   = describe("node_written_tokens_total", "Tokens that the node has written for the mesh since it started.", "node")
	reportAgeDesc = describe("node_report_age_seconds", "Age of the newest load report of the node: how well gossip works.", "node")
	rttDesc       = describe("node_rtt_seconds", "Round trip to the node by gossip's coordinates.", "node")
)

// Describe implements [prometheus.Collector].
func (view) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		membersDesc, changesDesc, upDesc, inFlightDesc, queueDesc, vramDesc, ramDesc, diskDesc, modelDesc, writtenDesc, reportAgeDesc, rttDesc,
	} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (w view) Collect(out chan<- prometheus.Metric) {
	v, now := w.now(), time.Now()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		for i := range labels {
			labels[i] = strings.ToValidUTF8(labels[i], "?") // they come from other nodes
		}
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	out <- prometheus.MustNewConstMetric(changesDesc, prometheus.CounterValue, float64(v.Generation))
	states := map[string]int{"alive": 0, "draining": 0, "failed": 0, "left": 0}
	for i, m := range v.Members() {
		state := string(m.Status)
		if m.Status == mesh.Alive && m.Draining() {
			state = "draining"
		}
		states[state]++
		if m.Status == mesh.Alive && i < maxNames {
			node(gauge, m, now)
			if m.Load != nil {
				out <- prometheus.MustNewConstMetric(writtenDesc, prometheus.CounterValue, float64(m.Load.Written), strings.ToValidUTF8(m.Name, "?"))
			}
		}
	}
	for state, n := range states {
		gauge(membersDesc, float64(n), state)
	}
}

// node says what is known of one living node; what is not known is left out.
func node(gauge func(d *prometheus.Desc, value float64, labels ...string), m *mesh.Member, now time.Time) {
	known := func(d *prometheus.Desc, n uint64, labels ...string) {
		if n > 0 {
			gauge(d, float64(n), labels...)
		}
	}
	up := 0.0
	if m.Info.Ollama != "" && (m.Load == nil || m.Load.Up) {
		up = 1
	}
	gauge(upDesc, up, m.Name)
	known(vramDesc, m.Info.VRAM, m.Name, "total")
	known(ramDesc, m.Info.RAM, m.Name, "total")
	if m.RTT > 0 {
		gauge(rttDesc, m.RTT.Seconds(), m.Name)
	}
	if m.Load == nil {
		return
	}
	if !m.Heard.IsZero() {
		gauge(reportAgeDesc, max(0, now.Sub(m.Heard).Seconds()), m.Name)
	}
	gauge(inFlightDesc, float64(m.Load.Running), m.Name)
	gauge(queueDesc, float64(m.Load.Waiting), m.Name)
	known(vramDesc, m.Load.FreeVRAM, m.Name, "free")
	known(ramDesc, m.Load.FreeRAM, m.Name, "free")
	known(diskDesc, m.Load.FreeDisk, m.Name)
	for i := range m.Load.Models {
		l := &m.Load.Models[i]
		if !l.Resident {
			continue
		}
		gauge(modelDesc, float64(l.SizeVRAM), m.Name, l.Key, "vram")
		gauge(modelDesc, float64(l.Size-min(l.Size, l.SizeVRAM)), m.Name, l.Key, "ram")
	}
}
