package browser

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/dashboard"
)

// still is a mesh that does not change: the page's own routes serve it as they
// would a real one.
type still struct{ view *mesh.View }

func (s still) Watch() (*mesh.View, <-chan struct{}) { return s.view, nil }

// scene serves a household of n at work, with an hour behind it. The nodes
// named in dead have failed a few minutes ago.
func scene(t *testing.T, n int, dead ...string) string {
	t.Helper()
	now := time.Now()
	view := mesh.NewView(1, now, household(n, now, 0, dead))
	history := admin.NewHistory(still{view})
	written := map[mesh.NodeID]float64{}
	for i := range 361 {
		at := now.Add(time.Duration(i-361) * 10 * time.Second)
		gone := dead
		if at.Before(now.Add(-4 * time.Minute)) {
			gone = nil
		}
		members := household(n, at, float64(361-i), gone)
		for _, m := range members {
			for _, l := range m.Load.Models {
				written[m.ID] += 10 * l.Decode * float64(min(l.Running, l.Slots))
			}
			m.Load.Written = uint64(written[m.ID])
		}
		history.Record(mesh.NewView(1, at, members), at)
	}
	mux := http.NewServeMux()
	mux.Handle("/mesh/", dashboard.Handler())
	running, ended := requests(view, now)
	events := admin.NewEvents(admin.EventsConfig{
		Mesh: still{view}, Cluster: "home", Endpoint: "http://127.0.0.1:11435", Version: "0.1.0",
		Requests: func(since uint64) (r, e []router.Record, ends uint64) {
			return running, ended[since:], uint64(len(ended))
		},
	})
	mux.Handle("/mesh/v1/events", events)
	mux.Handle("/mesh/v1/history", history)
	mux.HandleFunc("/mesh/v1/models", func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(admin.ModelsOf(view, "home", now)); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(events.Close) // first: a server waits for its streams
	return server.URL
}

// household builds the members: the same for the same n, with work that swings
// with back, the number of points before now.
func household(n int, now time.Time, back float64, dead []string) (members []*mesh.Member) {
	dice := rand.New(rand.NewPCG(7, uint64(back)/6))
	for i, spec := range fleet.Household(n, 1) {
		opts := []meshtest.MemberOption{meshtest.Hardware(spec.Hardware)}
		if i == 0 {
			opts = append(opts, meshtest.Self())
		}
		m := meshtest.Member(spec.Name, opts...)
		m.Since, m.Heard = now.Add(-3*time.Hour), now.Add(time.Hour) // never silent
		m.Info.Version, m.Info.Ollama = "0.1.0", "0.33.0"
		m.RTT = time.Duration(200+37*i%900) * time.Microsecond
		m.Card.Catalog = nil
		for _, model := range spec.Ollama.Models {
			m.Card.Catalog = append(m.Card.Catalog, mesh.Model{Key: model.Name, Name: model.Name, Size: uint64(model.Size)})
		}
		if i%4 > 1 { // GPU machines have more on disk
			for _, extra := range []mesh.Model{
				{Name: "gpt-oss:20b", Size: 13_780_173_839},
				{Name: "llama3.2:3b", Size: 2_019_393_189},
				{Name: "nomic-embed-text:latest", Size: 274_302_450},
			} {
				extra.Key = extra.Name
				m.Card.Catalog = append(m.Card.Catalog, extra)
			}
		}
		work(m, i, back, dice)
		for _, name := range dead {
			if name == spec.Name {
				m.Status, m.Since = mesh.Failed, now.Add(-4*time.Minute)
			}
		}
		members = append(members, m)
	}
	return members
}

// work loads one or two models and gives them something to do.
func work(m *mesh.Member, i int, back float64, dice *rand.Rand) {
	wave := 0.5 + 0.5*math.Sin(back/23+float64(i))
	add := func(name string, vram float64, rate float64, running int) {
		model := m.Card.Catalog.Find(name)
		size := uint64(float64(model.Size) * 1.12)
		m.Load.Models = append(m.Load.Models, mesh.ModelLoad{
			Key: name, Resident: true, Size: size, SizeVRAM: uint64(float64(size) * vram), Context: 8192,
			Decode: rate, Samples: 40, Slots: 2, Running: running, Waiting: max(0, running-2),
		})
		m.Load.Running += min(2, running)
		m.Load.Waiting += max(0, running-2)
	}
	busy := int(wave * (2 + 2*dice.Float64()))
	switch i % 4 {
	case 0, 1:
		if i%8 != 1 {
			add("qwen2.5:3b", 0, 8, busy/3)
		}
	case 2:
		add("qwen2.5:32b", 0.97, 48, busy)
	case 3:
		add("qwen2.5:72b", 1, 2.9, min(busy, 2))
		if i%8 == 3 {
			add("nomic-embed-text:latest", 1, 0, 0)
		}
	}
	var vram, ram uint64
	for _, l := range m.Load.Models {
		vram += l.SizeVRAM
		ram += l.Size - l.SizeVRAM
	}
	h := &m.Card.Hardware
	m.Load.FreeVRAM = h.VRAMFree.N - min(h.VRAMFree.N, vram)
	m.Load.FreeRAM = h.RAMFree.N - min(h.RAMFree.N, ram)
}

// requests are some that run and some that have ended, newest first.
func requests(v *mesh.View, now time.Time) (running, ended []router.Record) {
	owners := map[string][]string{}
	for _, m := range v.Members() {
		for _, l := range m.Load.Models {
			if m.Status == mesh.Alive {
				owners[l.Key] = append(owners[l.Key], m.Name)
			}
		}
	}
	models := []string{"qwen2.5:32b", "qwen2.5:72b", "qwen2.5:3b"}
	rates := map[string]float64{"qwen2.5:32b": 48, "qwen2.5:72b": 2.9, "qwen2.5:3b": 8}
	dice := rand.New(rand.NewPCG(3, 3))
	for i := range 40 {
		model := models[dice.IntN(3)]
		owner := "cpu-1"
		if names := owners[model]; len(names) > 0 {
			owner = names[dice.IntN(len(names))]
		}
		r := router.Record{
			ID: fmt.Sprintf("REQ%02d", i), Model: model, Owner: owner, Outcome: router.OutcomeOK, Status: 200,
			Start:    now.Add(-time.Duration(4+i*7) * time.Second),
			Attempts: []router.Attempt{{Node: owner, Phase: "stream", Result: router.ResultOK}},
			First:    0.2 + dice.Float64()*1.4, Took: 3 + dice.Float64()*20, Rate: rates[model] * (0.9 + 0.2*dice.Float64()),
		}
		switch i {
		case 0, 1, 2:
			r.Outcome, r.Took = "", float64(3+i*7)
			running = append(running, r)
			continue
		case 6:
			r.Continued = 1
			r.Attempts = append([]router.Attempt{{Node: "gpu-mobile", Phase: "stream", Result: "cut"}}, r.Attempts...)
		case 9:
			r.Outcome, r.Status, r.Owner, r.Attempts = router.OutcomeBusy, 503, "", []router.Attempt{}
			r.First, r.Took, r.Rate = 0, 0.01, 0
		}
		ended = append(ended, r)
	}
	return running, ended
}
