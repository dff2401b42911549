package node

import (
	"net/http"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/dashboard"
)

// page is the node's page with what it is fed by.
type page struct {
	events  *admin.Events
	history *admin.History
}

func newPage(c admin.EventsConfig) *page {
	return &page{events: admin.NewEvents(c), history: admin.NewHistory(c.Mesh)}
}

// around serves the page and its routes, and leaves everything else below
// /mesh to api.
func (p *page) around(api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", api)
	files := admin.Here(dashboard.Handler())
	mux.Handle("/mesh", files)
	mux.Handle("/mesh/{$}", files)
	mux.Handle("/mesh/assets/", files)
	mux.Handle("GET /mesh/v1/events", admin.Here(p.events))
	mux.Handle("GET /mesh/v1/history", admin.Here(p.history))
	return mux
}
