package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
)

func busy(name string, running int) *mesh.Member {
	return meshtest.Member(name, meshtest.LoadOf(func(l *mesh.Load) {
		l.Running = running
		l.Models = []mesh.ModelLoad{
			{Key: "m:latest", Resident: true, Size: 10, SizeVRAM: 7},
			{Key: "n:latest", Size: 99}, // not in memory
		}
	}))
}

func TestHistory(t *testing.T) {
	h := NewHistory(nil)
	start := time.Unix(1_700_000_000, 0) // a multiple of the step
	for i := range 10 {
		h.Record(meshtest.View(busy("a", i%2)), start.Add(time.Duration(i)*time.Second))
	}
	if doc := h.Doc(0); len(doc.Times) != 0 {
		t.Errorf("a point before its time: %+v", doc)
	}
	dead := meshtest.Member("a", meshtest.Gone(mesh.Failed))
	h.Record(meshtest.View(dead, busy("b", 4)), start.Add(10*time.Second))
	h.Record(meshtest.View(dead, busy("b", 4)), start.Add(20*time.Second))
	doc := h.Doc(0)
	if len(doc.Times) != 2 || doc.Times[0] != start.Unix()+10 || doc.Times[1] != start.Unix()+20 || doc.StepSeconds != 10 {
		t.Fatalf("%+v", doc)
	}
	a, b := doc.Nodes[string(meshtest.ID("a"))], doc.Nodes[string(meshtest.ID("b"))]
	if a == nil || a.Running[0] != 0.5 || a.VRAM[0] != 7 || a.RAM[0] != 3 || a.Up[0] != 1 {
		t.Errorf("a at work: %+v", a)
	}
	if a.Up[1] != 0 || a.Running[1] != 0 || a.VRAM[1] != 0 {
		t.Errorf("a dead: %+v", a)
	}
	if b == nil || b.Up[0] != 0 || b.Up[1] != 1 || b.Running[1] != 4 {
		t.Errorf("b came later: %+v", b)
	}
	if late := h.Doc(start.Unix() + 10); len(late.Times) != 1 || len(late.Nodes) != 2 || len(late.Nodes[string(meshtest.ID("b"))].Up) != 1 {
		t.Errorf("since: %+v", late)
	}
}

// What a node writes is a counter of its process: a restart is no burst.
func TestHistoryOfTokens(t *testing.T) {
	h := NewHistory(nil)
	start := time.Unix(1_700_000_000, 0)
	at := func(seconds int, life, written uint64) {
		h.Record(meshtest.View(meshtest.Member("a", meshtest.LoadOf(func(l *mesh.Load) {
			l.Incarnation, l.Written = life, written
		}))), start.Add(time.Duration(seconds)*time.Second))
	}
	at(0, 1, 5000)
	at(9, 1, 5000)
	at(12, 1, 5100)
	at(19, 1, 5250) // 250 in the second point
	at(25, 2, 9000) // another life
	at(35, 2, 9040) // 40 in the last point
	at(40, 2, 9040)
	got := h.Doc(0).Nodes[string(meshtest.ID("a"))].Rate
	if want := []float64{0, 25, 0, 4}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestHistoryKeepsAnHour(t *testing.T) {
	h := NewHistory(nil)
	start := time.Unix(1_700_000_000, 0)
	for i := range 3 * historyPoints {
		h.Record(meshtest.View(busy("a", 1)), start.Add(time.Duration(i)*historyStep))
	}
	if doc := h.Doc(0); len(doc.Times) != historyPoints || doc.Times[historyPoints-1]-doc.Times[0] != 3590 {
		t.Errorf("%d points", len(doc.Times))
	}
}

func TestHistoryRoute(t *testing.T) {
	h := NewHistory(nil)
	for query, status := range map[string]int{"": 200, "?since=5": 200, "?since=x": 400} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/mesh/v1/history"+query, nil))
		if w.Code != status || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%q: %d %s", query, w.Code, w.Body)
		}
	}
}
