package node

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

type still struct{ view *mesh.View }

func (s still) Watch() (*mesh.View, <-chan struct{}) { return s.view, nil }

// The page and its routes are this machine's alone; the rest below /mesh goes
// to the API.
func TestPageRoutes(t *testing.T) {
	w := still{meshtest.View(meshtest.Member("a", meshtest.Self()))}
	p := &page{events: admin.NewEvents(admin.EventsConfig{Mesh: w}), history: admin.NewHistory(w)}
	p.events.Close() // a stream would not end in this test
	h := p.around(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for _, tt := range []struct {
		path, host, remote, origin string
		status                     int
	}{
		{"/mesh/", "127.0.0.1:11435", "127.0.0.1:5", "", 200},
		{"/mesh/", "localhost:11435", "[::1]:5", "", 200},
		{"/mesh/", "127.0.0.1:11435", "192.168.1.9:5", "", 403},
		{"/mesh/", "evil.example", "127.0.0.1:5", "", 403},
		{"/mesh/assets/app.js", "127.0.0.1:11435", "127.0.0.1:5", "http://127.0.0.1:11435", 200},
		{"/mesh/assets/app.js", "127.0.0.1:11435", "127.0.0.1:5", "http://evil.example", 403},
		{"/mesh/assets/app.js", "127.0.0.1:11435", "127.0.0.1:5", "http://127.0.0.1:8080", 403},
		{"/mesh/v1/history", "127.0.0.1:11435", "127.0.0.1:5", "", 200},
		{"/mesh/v1/history", "127.0.0.1:11435", "10.0.0.1:5", "", 403},
		{"/mesh/v1/events", "127.0.0.1:11435", "127.0.0.1:5", "", 200},
		{"/mesh/v1/events", "127.0.0.1:11435", "10.0.0.1:5", "", 403},
		{"/mesh/v1/members", "127.0.0.1:11435", "127.0.0.1:5", "", 418},
	} {
		req := httptest.NewRequest(http.MethodGet, tt.path, nil)
		req.Host, req.RemoteAddr = tt.host, tt.remote
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != tt.status {
			t.Errorf("%+v: %d", tt, w.Code)
		}
	}
}
