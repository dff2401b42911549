package router_test

import (
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

// holder is a member with m:latest and popular:latest on disk.
func holder(name string, load func(*mesh.Load)) *mesh.Member {
	return meshtest.Member(name, meshtest.Models("m:latest", "popular:latest"), meshtest.Hardware(bigBox()), meshtest.LoadOf(load))
}

func chosen(t *testing.T, q router.Request, s router.Snapshot) mesh.NodeID {
	t.Helper()
	cs := router.Select(q, s)
	if len(cs) == 0 {
		t.Fatal("no candidate")
	}
	return cs[0].ID
}

// A model that many want is not pushed out by a slow one that could as well
// wait elsewhere; one that nobody has asked for lately is.
func TestPopularModelsStay(t *testing.T) {
	const gib = 1 << 30
	busy := holder("busy", func(l *mesh.Load) {
		l.Models = []mesh.ModelLoad{{
			Key: "m:latest", Resident: true, Size: 5 * gib, Slots: 1, Running: 1, Start: 60,
			Decode: 5, Prefill: 100, Output: 300, Cold: 5, Samples: 9,
		}}
	})
	for _, c := range []struct {
		rate float64
		want string
	}{{0, "idle"}, {0.2, "busy"}} {
		idle := holder("idle", func(l *mesh.Load) {
			l.FreeRAM = 1 * gib
			l.Models = []mesh.ModelLoad{
				{Key: "m:latest", Slots: 1, Decode: 5, Prefill: 100, Output: 300, Cold: 5, Samples: 9},
				{
					Key: "popular:latest", Resident: true, Size: 40 * gib, Slots: 1, Decode: 50, Prefill: 900, Output: 300, Cold: 5,
					Samples: 9, Rate: c.rate, Expires: meshtest.Epoch.Add(5 * time.Minute),
				},
			}
		})
		got := chosen(t, router.Request{Key: "m:latest", PromptTokens: 100},
			router.Snapshot{View: meshtest.View(busy, idle), Now: meshtest.Epoch})
		if got != meshtest.ID(c.want) {
			t.Errorf("popular model wanted %v times a second: not placed on %s", c.rate, c.want)
		}
	}
}

// Who would miss a model goes elsewhere where that is nearly as good: then it
// makes way. Where elsewhere is slow it makes way only for a request that has
// waited long, since a second of that weighs more.
func TestAModelMakesWayByWhatItsUsersLose(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		name   string
		others float64 // tok/s of the popular model at a third node; 50 here
		waited time.Duration
		want   string
	}{
		{"no third node", 0, 0, "busy"},
		{"a third node as fast", 50, 0, "idle"},
		{"a slow third node", 4, 0, "busy"},
		{"a slow third node, and a long wait", 4, 20 * time.Minute, "idle"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mine := mesh.ModelLoad{Key: "m:latest", Slots: 1, Decode: 5, Prefill: 100, Output: 300, Cold: 5, Samples: 9}
			theirs := mesh.ModelLoad{
				Key: "popular:latest", Resident: true, Size: 40 * gib, Slots: 1, Decode: 50, Prefill: 900, Output: 300, Cold: 5,
				Samples: 9, Rate: 0.2, Expires: meshtest.Epoch.Add(5 * time.Minute),
			}
			members := []*mesh.Member{
				holder("busy", func(l *mesh.Load) {
					x := mine
					x.Resident, x.Size, x.Running, x.Start = true, 5*gib, 1, 120
					l.Models = []mesh.ModelLoad{x}
				}),
				holder("idle", func(l *mesh.Load) { l.FreeRAM, l.Models = gib, []mesh.ModelLoad{mine, theirs} }),
			}
			members[0].Card.Catalog = members[0].Card.Catalog[:1]
			if c.others > 0 {
				members = append(members, holder("third", func(l *mesh.Load) {
					x := theirs
					x.Decode = c.others
					l.Models = []mesh.ModelLoad{x}
				}))
				members[2].Card.Catalog = members[2].Card.Catalog[1:]
			}
			q := router.Request{Key: "m:latest", PromptTokens: 100, Arrived: meshtest.Epoch.Add(-c.waited)}
			if got := chosen(t, q, router.Snapshot{View: meshtest.View(members...), Now: meshtest.Epoch}); got != meshtest.ID(c.want) {
				t.Errorf("not placed on %s", c.want)
			}
		})
	}
}

// A model that is in the way of another that many want does not get one request
// after the other as long as there is a node where it stands in nobody's way.
func TestAModelInTheWayIsNotKeptThere(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		rate    float64
		waiting int
		want    string
	}{{0, 0, "wanted"}, {0.2, 0, "free"}, {0, 5, "free"}} {
		mine := mesh.ModelLoad{
			Key: "m:latest", Resident: true, Size: 40 * gib, Slots: 1, Running: 1, Start: 60,
			Decode: 5, Prefill: 100, Output: 300, Cold: 5, Samples: 9,
		}
		wanted := holder("wanted", func(l *mesh.Load) {
			l.FreeRAM = 1
			l.Models = []mesh.ModelLoad{mine, {
				Key: "popular:latest", Slots: 1, Waiting: c.waiting, Decode: 50, Prefill: 900, Output: 300, Cold: 5, Samples: 9, Rate: c.rate,
			}}
		})
		free := holder("free", func(l *mesh.Load) {
			x := mine
			x.Start = 80
			l.Models = []mesh.ModelLoad{x}
		})
		free.Card.Catalog = free.Card.Catalog[:1]
		got := chosen(t, router.Request{Key: "m:latest", PromptTokens: 100},
			router.Snapshot{View: meshtest.View(wanted, free), Now: meshtest.Epoch})
		if got != meshtest.ID(c.want) {
			t.Errorf("another model wanted %v times a second, %d waiting: not placed on %s", c.rate, c.waiting, c.want)
		}
	}
}

// All entries choose the same node for the turns of a conversation among equal
// ones, conversations are spread over them, and load beats affinity.
func TestConversationsFindTheirNodeFromEveryEntry(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	view := func(self, loaded string) *mesh.View {
		var members []*mesh.Member
		for _, n := range names {
			m := holder(n, func(l *mesh.Load) {
				l.Models = []mesh.ModelLoad{{
					Key: "m:latest", Resident: true, Slots: 1, Decode: 20, Prefill: 400, Output: 200, Samples: 9,
				}}
				if n == loaded {
					l.Models[0].Running, l.Models[0].Start = 1, 30
				}
			})
			m.Self = n == self
			members = append(members, m)
		}
		return meshtest.View(members...)
	}
	homes := map[mesh.NodeID]int{}
	for conversation := range uint64(200) {
		q := router.Request{Key: "m:latest", PromptTokens: 500, Conversation: conversation + 1}
		snapshot := func(self, loaded string) router.Snapshot {
			return router.Snapshot{View: view(self, loaded), Now: meshtest.Epoch, Seed: q.Conversation}
		}
		home := chosen(t, q, snapshot("a", ""))
		homes[home]++
		for _, entry := range names {
			if got := chosen(t, q, snapshot(entry, "")); got != home {
				t.Fatalf("conversation %d: %s at one entry, %s at another", conversation, home, got)
			}
		}
		for _, n := range names {
			if meshtest.ID(n) == home && chosen(t, q, snapshot("a", n)) == home {
				t.Fatal("a busy node keeps its conversation although an idle one would be sooner")
			}
		}
	}
	for id, n := range homes {
		if n < 25 || n > 80 {
			t.Errorf("%s is the node of %d of 200 conversations", id.Short(), n)
		}
	}
}

// What a node holds of a prompt, it need not read again.
func TestCachedPromptSavesItsReading(t *testing.T) {
	load := func(l *mesh.Load) {
		l.Models = []mesh.ModelLoad{{Key: "m:latest", Resident: true, Slots: 1, Decode: 20, Prefill: 100, Output: 100, Samples: 9}}
	}
	s := router.Snapshot{View: meshtest.View(holder("a", load), holder("b", load)), Now: meshtest.Epoch}
	for _, name := range []string{"a", "b"} {
		s.Cached = []router.Cached{{Node: meshtest.ID(name), Tokens: 2800}}
		if got := chosen(t, router.Request{Key: "m:latest", PromptTokens: 3000}, s); got != meshtest.ID(name) {
			t.Errorf("not placed where the prompt is")
		}
	}
}
