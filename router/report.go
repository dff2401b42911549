package router

import (
	"net/http"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// reportLife is how long the report that goes along with answers is sent again.
// An ingress corrects what it hears by what it has sent itself within the last
// 150 ms (see settle); a report of five thousand answers a second costs more
// than the answers.
const reportLife = 5 * time.Millisecond

// report is this node's own load as it goes along with answers.
type report struct {
	mu   sync.Mutex
	text string
	at   time.Time
}

// now is the load as of the last moment, for headerLoad; "" when there is none.
func (p *report) now(b Backend) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := time.Now(); t.Sub(p.at) >= reportLife {
		p.text, p.at = loadText(b.Load()), t
	}
	return p.text
}

func (p *report) write(h http.Header, b Backend) {
	if text := p.now(b); text != "" {
		h[headerLoad] = []string{text}
	}
}

// reports remember what nodes said of themselves last: the same again is no
// news.
type reports struct {
	last sync.Map // mesh.NodeID -> string
}

// news is the load in h, nil when there is none or no newer one.
func (p *reports) news(node mesh.NodeID, h http.Header) *mesh.Load {
	text := wire.Field(h, headerLoad)
	if text == "" {
		return nil
	}
	if last, ok := p.last.Load(node); ok && last == text {
		return nil
	}
	p.last.Store(node, text)
	return readLoad(text)
}
