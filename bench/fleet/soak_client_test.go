package fleet_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// secondDoor tells clients whether the shaky ingress is there, and whether it
// has gone since.
type secondDoor struct {
	up    atomic.Bool
	kills atomic.Int64
}

// tally counts what clients saw, and the executions that it took.
type tally struct {
	mu                                sync.Mutex
	ids                               int
	asked, whole, clear, left, orphan int
	spent                             int               // of clear: three tries that cost work, before the first byte
	refused                           map[string]string // ended in an error before the first byte, by id: to be judged by their records
	given                             int               // tokens in whole answers
	runs, most, again                 int               // executions: of all, of one request, and requests with more than one
}

func (c *tally) String() string {
	return fmt.Sprintf("%d asked, %d whole, %d clear errors (%d after three tries), %d left, %d lost with their ingress; %d executions, %d requests run more than once (at most %d times)",
		c.asked, c.whole, c.clear, c.spent, c.left, c.orphan, c.runs, c.again, c.most)
}

// client asks one request after the other. One in eight leaves at its third
// frame.
func (s *soak) client(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		door, kills := steady, s.second.kills.Load() // before the look at its door
		if r.IntN(3) == 0 && s.second.up.Load() {
			door = shaky
		}
		route, tokens, leaves := routes[r.IntN(len(routes))], 3+r.IntN(60), r.IntN(8) == 0
		s.one(door, kills, route.path, route.request("m", tokens, nil), tokens, leaves)
	}
}

// one asks one request and judges its answer. It is not cut off when the round
// ends: what is accepted is to be finished.
func (s *soak) one(door int, kills int64, path string, body map[string]any, tokens int, leaves bool) {
	ctx, leave := context.WithTimeout(s.t.Context(), patience)
	defer leave()
	s.sum.mu.Lock()
	s.sum.ids++
	id := "soak-" + strconv.Itoa(s.sum.ids)
	s.sum.mu.Unlock()
	var gone atomic.Bool
	h := heard{third: func() {
		if leaves {
			gone.Store(true)
			leave()
		}
	}}
	h.listen(ctx, s.doors[door], path, body, ollamatest.HeaderTestID, id, ollamatest.HeaderRequestID, id)
	s.books.learn(s.f.Node(steady))
	err := h.whole()
	if err == nil {
		err = ollamatest.Verify(h.text, tokens)
		if err == nil && h.output != tokens && h.output != 0 {
			err = fmt.Errorf("it counts %d tokens", h.output)
		}
		if err != nil {
			s.bad(id, "%s looks whole and is not: %v: %q", path, err, h.text)
		}
	}
	s.sum.mu.Lock()
	defer s.sum.mu.Unlock()
	s.sum.asked++
	switch {
	case err == nil:
		s.sum.whole++
		s.sum.given += tokens
	case gone.Load():
		s.sum.left++
	case door == shaky && s.second.kills.Load() != kills && h.marks == 0:
		s.sum.orphan++ // its ingress has died under it
	case h.status == http.StatusOK && h.broken() == nil:
		s.sum.clear++
		s.log.note("clear error", h.failure, "request", id)
	case h.status >= http.StatusInternalServerError && strings.Contains(h.failure, "error"):
		s.sum.refused[id] = fmt.Sprintf("%s: status %d, %s", path, h.status, h.failure)
	default:
		s.bad(id, "%s at %s: %v: status %d, %v, error %q", path, s.f.Node(door).Spec.Name, err, h.status, h.err, h.failure)
	}
}

// bad reports a broken promise, with what the nodes know of it.
func (s *soak) bad(id, format string, args ...any) {
	n, known := s.f.Node(steady), ""
	if rec, _, ok := n.Router().Recorded(id); ok {
		known = fmt.Sprintf("\nits record: %+v", rec)
	}
	known += fmt.Sprintf("\n%s sees%s", n.Spec.Name, picture(n.Mesh().View()))
	s.t.Errorf("%s, %s%s\n%s", id, fmt.Sprintf(format, args...), known, s.log.with("request="+id+" ", "level=WARN", "msg=fault"))
}

// picture is a view in a line.
func picture(v *mesh.View) (text string) {
	for _, m := range v.Members() {
		text += fmt.Sprintf("; %s %s", m.Name, m.Status)
		if m.Load != nil {
			text += fmt.Sprintf(" up %v running %d waiting %d trouble %d", m.Load.Up, m.Load.Running, m.Load.Waiting, m.Load.Trouble)
		}
	}
	return text
}
