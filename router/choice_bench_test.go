package router

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// pictures is a Mesh whose View is what the test says.
type pictures struct{ view *mesh.View }

func (p *pictures) View() *mesh.View                { return p.view }
func (p *pictures) Observe(mesh.NodeID, *mesh.Load) {}

// What a small request pays for its choice at an ingress of two members, beside
// the choice itself: a new View comes with every answer, a few other requests are
// on their way, the conversation is known.
func BenchmarkChoice(b *testing.B) {
	for _, busy := range []int{0, 16} {
		b.Run(fmt.Sprintf("%d-on-their-way", busy), func(b *testing.B) {
			member := func(name string, running int) *mesh.Member {
				m := meshtest.Member(name, meshtest.Models("m:7b", "n:7b"), meshtest.LoadOf(func(l *mesh.Load) {
					l.Models = []mesh.ModelLoad{{Key: "m:7b", Resident: true, Size: 4 << 30, Slots: 4, Running: running, Decode: 30, Prefill: 500, Samples: 9, Output: 100}}
				}))
				m.Heard, m.Since = time.Now(), time.Now()
				return m
			}
			here := member("here", 0)
			here.Self = true
			views := [2]*mesh.View{meshtest.View(here, member("there", 1)), meshtest.View(here, member("there", 2))}
			p := &pictures{view: views[0]}
			r, err := New(Config{Mesh: p, Backend: nowhere{}, Peers: nowhere{}})
			if err != nil {
				b.Fatal(err)
			}
			q := Request{
				ID: "01JD5Q8W7G", Key: "m:7b", PromptTokens: 100, Prefixes: []uint64{1, 2, 3}, PrefixTokens: []int{20, 60, 100},
				Conversation: 1, Arrived: time.Now(),
			}
			at := views[0].Members()[1].ID
			for range busy {
				r.ledger.Dispatch(at, Work{Key: "m:7b", Sent: time.Now().Add(time.Hour)})
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.view = views[i%2]
				cs := r.config.Policy(q, r.Snapshot(q))
				done := r.ledger.Dispatch(cs[0].ID, Work{Key: q.Key, PromptTokens: q.PromptTokens, Sent: time.Now()})
				believed := r.warm.answers(&q, cs[0].Member, p.view)
				r.ledger.Worked(cs[0].ID)
				r.warm.answered(&q, cs[0].Member, believed, wire.Usage{})
				done()
			}
		})
	}
}

// nowhere is a backend and peers that nothing is asked of.
type nowhere struct{ Backend }

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("nowhere") }
