package router

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
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

// What a request pays at its ingress for a choice and what belongs to it: a new
// View comes with every answer, others may be on their way, the conversation is
// known.
func BenchmarkChoice(b *testing.B) {
	for _, c := range []struct{ members, busy int }{{2, 0}, {2, 16}, {500, 16}} {
		b.Run(fmt.Sprintf("%d-members-%d-on-their-way", c.members, c.busy), func(b *testing.B) {
			members := make([]*mesh.Member, c.members)
			for i := range members {
				members[i] = meshtest.Member(fmt.Sprint("node-", i), meshtest.Models("m:7b", "n:7b"), meshtest.LoadOf(func(l *mesh.Load) {
					l.Models = []mesh.ModelLoad{{Key: "m:7b", Resident: true, Size: 4 << 30, Slots: 4, Running: i % 3, Decode: 30, Prefill: 500, Samples: 9, Output: 100}}
				}))
				members[i].Heard, members[i].Since = time.Now(), time.Now()
			}
			members[0].Self = true
			views := [2]*mesh.View{meshtest.View(slices.Clone(members)...), meshtest.View(members...)}
			p := &pictures{view: views[0]}
			r, err := New(Config{Mesh: p, Backend: nowhere{}, Peers: nowhere{}})
			if err != nil {
				b.Fatal(err)
			}
			q := Request{
				ID: "01JD5Q8W7G", Key: "m:7b", PromptTokens: 100, Prefixes: []uint64{1, 2, 3}, PrefixTokens: []int{20, 60, 100},
				Conversation: 1, Arrived: time.Now(),
			}
			for i := range c.busy {
				r.ledger.Dispatch(views[0].Members()[i%c.members].ID, Work{Key: "m:7b", Sent: time.Now().Add(time.Hour)})
			}
			room := make([]Candidate, c.members)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.view = views[i%2]
				s := r.Snapshot(q)
				s.Room = room
				cs := r.config.Policy(q, s)
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
