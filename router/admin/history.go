package admin

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

const (
	// historyStep is the width of a point of the charts, and historyPoints how
	// many are kept: an hour, about 40 bytes per node and point.
	historyStep   = 10 * time.Second
	historyPoints = 360
	// historyLook is how often a point is added to: mean figures over a point
	// are made of ten looks.
	historyLook = time.Second
)

// History remembers the last hour of the mesh, as this node saw it, for the
// charts of the page. Run fills it; ServeHTTP is /mesh/v1/history.
type History struct {
	mesh Watcher

	mu     sync.Mutex
	points []moment // oldest first
	open   *opened  // owned by Record
}

// moment is one point of all nodes.
type moment struct {
	at    int64 // Unix seconds of its end
	nodes map[mesh.NodeID]sample
}

type sample struct {
	name             string
	up               bool
	running, waiting float64 // mean
	vram, ram        uint64  // bytes that models take
	life, written    uint64  // incarnation, and tokens that it wrote by the end of the point
	rate             float64 // tokens per second over the point
}

// writes is the mean rate since an earlier point, 0 when that was another life
// of the node.
func (s sample) writes(before sample, took time.Duration) float64 {
	if s.life == 0 || s.life != before.life || s.written < before.written || took <= 0 {
		return 0
	}
	return float64(s.written-before.written) / took.Seconds()
}

// opened is the point that is being made.
type opened struct {
	end   int64
	looks int
	nodes map[mesh.NodeID]sample // running and waiting are sums
}

// NewHistory makes an empty History.
func NewHistory(w Watcher) *History { return &History{mesh: w} }

// Run looks at the mesh once a second until ctx ends.
func (h *History) Run(ctx context.Context) error {
	tick := time.NewTicker(historyLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			v, _ := h.mesh.Watch()
			h.Record(v, now)
		}
	}
}

// Record adds what v shows to the point of now, and closes the one before. Run
// calls it; tests and demonstrations may tell a past of their own.
func (h *History) Record(v *mesh.View, now time.Time) {
	step := int64(historyStep / time.Second)
	end := (now.Unix()/step + 1) * step
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open != nil && h.open.end != end {
		var last moment
		if n := len(h.points); n > 0 {
			last = h.points[n-1]
		}
		h.points = append(h.points, h.open.moment(last))
		if over := len(h.points) - historyPoints; over > 0 {
			h.points = append(h.points[:0], h.points[over:]...)
		}
		h.open = nil
	}
	if h.open == nil {
		h.open = &opened{end: end, nodes: map[mesh.NodeID]sample{}}
	}
	h.open.add(v)
}

func (o *opened) add(v *mesh.View) {
	o.looks++
	for _, m := range v.Members() {
		if m.Status == mesh.Left {
			continue
		}
		s := o.nodes[m.ID]
		s.name, s.up = m.Name, m.Status == mesh.Alive
		s.vram, s.ram = 0, 0
		if s.up && m.Load != nil {
			s.running += float64(m.Load.Running)
			s.waiting += float64(m.Load.Waiting)
			s.life, s.written = m.Load.Incarnation, m.Load.Written
			for i := range m.Load.Models {
				if l := &m.Load.Models[i]; l.Resident {
					s.vram += l.SizeVRAM
					s.ram += l.Size - min(l.Size, l.SizeVRAM)
				}
			}
		}
		o.nodes[m.ID] = s
	}
}

// moment closes the point; last is the one before, or empty.
func (o *opened) moment(last moment) moment {
	for id, s := range o.nodes {
		s.running /= float64(o.looks)
		s.waiting /= float64(o.looks)
		s.rate = s.writes(last.nodes[id], time.Duration(o.end-last.at)*time.Second)
		o.nodes[id] = s
	}
	return moment{at: o.end, nodes: o.nodes}
}

// HistoryDoc is the answer of /mesh/v1/history. All lists have the length of
// Times; a node has zeros where it was not known.
type HistoryDoc struct {
	SchemaVersion int                `json:"schema_version"`
	StepSeconds   int                `json:"step_s"`
	Times         []int64            `json:"times"` // Unix seconds, the end of each point
	Nodes         map[string]*Series `json:"nodes"` // by node id
}

// Series is one node's hour.
type Series struct {
	Name    string    `json:"name"`
	Up      []int     `json:"up"`        // 1 alive
	Running []float64 `json:"in_flight"` // mean over the point
	Waiting []float64 `json:"waiting"`
	Rate    []float64 `json:"tokens_per_second"` // written, mean over the point
	VRAM    []uint64  `json:"vram"`              // bytes that models take on the GPU
	RAM     []uint64  `json:"ram"`               // and beside it
}

// Doc is what is remembered of the time after since, Unix seconds.
func (h *History) Doc(since int64) HistoryDoc {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := len(h.points)
	for from > 0 && h.points[from-1].at > since {
		from--
	}
	points := h.points[from:]
	doc := HistoryDoc{
		SchemaVersion: SchemaVersion, StepSeconds: int(historyStep / time.Second),
		Times: make([]int64, len(points)), Nodes: map[string]*Series{},
	}
	for i, p := range points {
		doc.Times[i] = p.at
		for id, s := range p.nodes {
			series := doc.Nodes[string(id)]
			if series == nil {
				n := len(points)
				series = &Series{
					Up: make([]int, n), Running: make([]float64, n), Waiting: make([]float64, n), Rate: make([]float64, n),
					VRAM: make([]uint64, n), RAM: make([]uint64, n),
				}
				doc.Nodes[string(id)] = series
			}
			series.Name = s.name
			if s.up {
				series.Up[i] = 1
			}
			series.Running[i], series.Waiting[i] = hundredth(s.running), hundredth(s.waiting)
			series.Rate[i] = hundredth(s.rate)
			series.VRAM[i], series.RAM[i] = s.vram, s.ram
		}
	}
	return doc
}

func hundredth(f float64) float64 { return math.Round(f*100) / 100 }

// ServeHTTP answers with the points after ?since=UNIX, or all.
func (h *History) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	since := int64(0)
	if text := req.URL.Query().Get("since"); text != "" {
		var err error
		if since, err = strconv.ParseInt(text, 10, 64); err != nil {
			write(w, http.StatusBadRequest, problem{"since wants seconds since 1970"})
			return
		}
	}
	write(w, http.StatusOK, h.Doc(since))
}
