package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
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
