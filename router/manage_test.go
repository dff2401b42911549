package router

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

const gib = 1 << 30

// homes is a view of nodes with so much RAM, disk and models; "*" marks the
// node itself.
type home struct {
	name      string
	ram, disk uint64
	version   string
	models    []mesh.Model
	cloud     bool
	down      bool
}

func viewOf(homes ...home) *mesh.View {
	var members []*mesh.Member
	for i, h := range homes {
		name, self := strings.CutSuffix(h.name, "*")
		amount := hardware.Bytes{N: h.ram, Source: hardware.Configured}
		version := h.version
		if version == "" {
			version = "0.11.4"
		}
		for j := range h.models {
			h.models[j].Key = h.models[j].Name
		}
		members = append(members, &mesh.Member{
			ID: mesh.NodeID(fmt.Sprintf("id-%d-%s", i, name)), Status: mesh.Alive, Self: self,
			Addr: netip.MustParseAddrPort("127.0.0.1:1"),
			Info: mesh.Info{Hostname: name, Ollama: version, RAM: h.ram},
			Card: &mesh.Card{
				Hardware: hardware.Inventory{RAM: amount, RAMFree: amount, Role: "cpu"},
				Catalog:  h.models, Ollama: version, Parallel: 1, Cloud: h.cloud,
			},
			Load: &mesh.Load{Up: !h.down, FreeDisk: h.disk},
		})
	}
	return mesh.NewView(1, time.Now(), members)
}

func namesOf(members []*mesh.Member) string {
	var names []string
	for _, m := range members {
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

func TestPullTargets(t *testing.T) {
	model := func(size uint64) []mesh.Model { return []mesh.Model{{Name: "m:latest", Size: size}} }
	for _, c := range []struct {
		name  string
		homes []home
		where string
		size  uint64
		want  string // or the beginning of what the refusal says
	}{
		{"the one that can hold it", []home{{name: "pi*", ram: 4 * gib}, {name: "box", ram: 64 * gib}}, "", 20 * gib, "box"},
		{"this node among equals", []home{{name: "a", ram: 64 * gib, disk: 900 * gib}, {name: "b*", ram: 64 * gib, disk: 100 * gib}}, "", 20 * gib, "b"},
		{"not onto a full disk", []home{{name: "a", ram: 64 * gib, disk: 900 * gib}, {name: "b*", ram: 64 * gib, disk: 20 * gib}}, "", 20 * gib, "a"},
		{"the holder's disk does not matter", []home{{name: "b*", ram: 64 * gib, disk: 2 * gib, models: model(20 * gib)}}, "", 20 * gib, "b"},
		{"the emptier disk", []home{{name: "a", ram: 64 * gib, disk: 90 * gib}, {name: "b", ram: 64 * gib, disk: 100 * gib}}, "", 20 * gib, "b"},
		{"unknown size: the larger memory", []home{{name: "pi*", ram: 4 * gib}, {name: "box", ram: 64 * gib}}, "", 0, "box"},
		{"nobody can", []home{{name: "pi*", ram: 4 * gib}, {name: "box", ram: 8 * gib}}, "", 90 * gib, "!pi has not the memory for 90.0 GiB; box has"},
		{"no Ollama at all", []home{{name: "pi*", ram: 4 * gib, down: true}}, "", 0, "!no node has a running Ollama"},
		{"all", []home{{name: "pi*", ram: 4 * gib}, {name: "box", ram: 64 * gib}, {name: "off", ram: gib, down: true}}, "all", 20 * gib, "box pi"},
		{"capable", []home{{name: "pi*", ram: 4 * gib}, {name: "box", ram: 64 * gib}, {name: "rack", ram: 99 * gib}}, "capable", 20 * gib, "rack box"},
		{"named", []home{{name: "pi*", ram: 4 * gib}, {name: "box", ram: 64 * gib}}, "pi, box,pi", 20 * gib, "pi box"},
		{"a name that nobody has", []home{{name: "pi*", ram: 4 * gib}}, "nosuch", 0, `!no node "nosuch"; the mesh has pi`},
		{"a name without Ollama", []home{{name: "pi*", down: true}}, "pi", 0, "!pi has no running Ollama"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, werr := pullTargets(viewOf(c.homes...), c.where, "m:latest", c.size)
			if want, refused := strings.CutPrefix(c.want, "!"); refused {
				if werr == nil || !strings.Contains(werr.Message, want) {
					t.Errorf("%s, %v; want %q", namesOf(got), werr, want)
				}
				return
			}
			if werr != nil || namesOf(got) != c.want {
				t.Errorf("%s, %v; want %s", namesOf(got), werr, c.want)
			}
		})
	}
}

func TestEligible(t *testing.T) {
	earlier, later := time.Unix(1, 0), time.Unix(2, 0)
	old := mesh.Model{Name: "m", Digest: "1", Blob: "w1", Modified: earlier, Size: gib}
	recent := mesh.Model{Name: "m", Digest: "2", Blob: "w2", Modified: later, Size: gib}
	twin := mesh.Model{Name: "m", Digest: "3", Blob: "w2", Modified: earlier, Size: gib} // made from the same weights
	oldest := mesh.Model{Name: "m", Digest: "4", Blob: "w4", Size: gib}
	stub := mesh.Model{Name: "m", Remote: "https://ollama.com"}
	every := func(q Request, s Snapshot) (cs []Candidate) {
		for _, h := range s.Holders(q.Key) {
			cs = append(cs, Candidate{Member: h.Member, Model: h.Model})
		}
		return cs
	}
	for _, c := range []struct {
		name  string
		q     Request
		homes []home
		want  string
	}{
		{"as the policy says", Request{}, []home{{name: "a", models: []mesh.Model{old}}, {name: "b", models: []mesh.Model{old}}}, "a b"},
		{"a conversation with its own weights", Request{Weights: weightsOf(&old)}, []home{{name: "a", models: []mesh.Model{old}}, {name: "b", models: []mesh.Model{recent}}, {name: "c", models: []mesh.Model{twin}}}, "a b c"},
		{"a conversation whose weights are gone", Request{Weights: Weights{Blob: "w0"}}, []home{{name: "a", models: []mesh.Model{old}}, {name: "b", models: []mesh.Model{recent}}}, "b a"},
		{"the rest of an answer with its own weights only", Request{Weights: weightsOf(&recent), Begun: true}, []home{{name: "a", models: []mesh.Model{old}}, {name: "b", models: []mesh.Model{recent}}, {name: "c", models: []mesh.Model{twin}}}, "b c"},
		{"the rest of an answer not with others, even where all are alike", Request{Weights: weightsOf(&recent), Begun: true}, []home{{name: "a", models: []mesh.Model{old}}, {name: "b", models: []mesh.Model{old}}}, ""},
		{"other weights from newer to older", Request{}, []home{{name: "a", models: []mesh.Model{old}}, {name: "b", models: []mesh.Model{oldest}}, {name: "c", models: []mesh.Model{recent}}}, "c a b"},
		{"the newest weights first", Request{}, []home{{name: "a", models: []mesh.Model{old}}, {name: "b", models: []mesh.Model{recent}}, {name: "c", models: []mesh.Model{twin}}}, "b c a"},
		{"not where the route is missing", Request{Since: "0.14.0"}, []home{{name: "a", version: "0.13.9", models: []mesh.Model{old}}, {name: "b", version: "0.14.0", models: []mesh.Model{old}}}, "b"},
		{"an unsaid version last", Request{Since: "0.14.0"}, []home{{name: "a", version: "0.0.0", models: []mesh.Model{old}}, {name: "b", version: "0.33.0-rc2", models: []mesh.Model{old}}}, "b a"},
		{"a cloud model nowhere", Request{Cloud: true}, []home{{name: "a", models: []mesh.Model{stub}}, {name: "b*", models: []mesh.Model{stub}}}, ""},
		{"a cloud model at home, for its owner", Request{Cloud: true, Own: true}, []home{{name: "a", models: []mesh.Model{stub}}, {name: "b*", models: []mesh.Model{stub}}}, "b"},
		{"a cloud model where it is open", Request{Cloud: true}, []home{{name: "a", cloud: true, models: []mesh.Model{stub}}, {name: "b*", models: []mesh.Model{stub}}}, "a"},
		{"a question here first", Request{Read: true}, []home{{name: "a", models: []mesh.Model{old}}, {name: "b*", models: []mesh.Model{old}}}, "b a"},
		{"a question about nothing to any Ollama", Request{Read: true}, []home{{name: "a"}, {name: "b*", down: true}}, "a"},
		{"one node only", Request{Only: "id-1-b"}, []home{{name: "a", models: []mesh.Model{old}}, {name: "b", models: []mesh.Model{old}}}, "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.q.Key = "m"
			var names []string
			for _, x := range eligible(every)(c.q, Snapshot{View: viewOf(c.homes...)}) {
				names = append(names, x.Name)
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// A node whose queue is full is waited for rather than left for other weights.
func TestAFullQueueIsNoReasonForOtherWeights(t *testing.T) {
	v := viewOf(home{name: "new"}, home{name: "twin"}, home{name: "old"})
	cs := make([]Candidate, 0, 3)
	for i, version := range []int{1, 1, 2} {
		cs = append(cs, Candidate{Member: v.Members()[i], version: version})
	}
	f := &flight{}
	f.course.Tell(cs[0].ID, time.Minute, time.Now())
	f.course.Tell(cs[1].ID, time.Hour, time.Now())
	if c, ok := f.course.Best(cs, f.wasTried); !ok || c.ID != cs[0].ID {
		t.Errorf("chose %s", c.Name)
	}
	f.exclude(&AttemptError{Node: cs[0].ID}, false)
	f.exclude(&AttemptError{Node: cs[1].ID}, false)
	if c, ok := f.course.Best(cs, f.wasTried); !ok || c.ID != cs[2].ID {
		t.Error("with both gone the other one does not do it")
	}
}

func TestConversationsAreKnownByTheirBeginning(t *testing.T) {
	a, b := Weights{Digest: "a"}, Weights{Digest: "b"}
	var c conversations
	c.held(wire.Chat, []uint64{1, 2}, a)
	c.held(wire.Chat, []uint64{1, 2, 3, 4}, b)
	c.held(wire.Generate, []uint64{8}, a)
	for _, x := range []struct {
		name     string
		kind     wire.Kind
		prefixes []uint64
		want     Weights
	}{
		{"a new one", wire.Chat, []uint64{1, 9}, Weights{}},
		{"the next turn", wire.Chat, []uint64{1, 2, 3, 5}, a},
		{"the turn after", wire.V1Chat, []uint64{1, 2, 3, 4, 5, 6}, b},
		{"the same question again", wire.Chat, []uint64{1, 2}, Weights{}},
		{"no conversation", wire.Generate, []uint64{8, 9}, Weights{}},
		{"nothing", wire.Chat, nil, Weights{}},
	} {
		if got := c.weights(x.kind, x.prefixes); got != x.want {
			t.Errorf("%s: %v", x.name, got)
		}
	}
	for i := range uint64(3 * maxConversations) {
		c.held(wire.Chat, []uint64{100 + i}, a)
		if i%1000 == 0 {
			c.held(wire.Chat, []uint64{77}, b) // in use all the time
		}
	}
	if n := len(c.recent) + len(c.older); n > 2*maxConversations {
		t.Errorf("%d conversations are remembered", n)
	}
	if c.weights(wire.Chat, []uint64{77, 78}) != b || !c.weights(wire.Chat, []uint64{1, 2, 3}).none() {
		t.Error("the wrong ones are forgotten")
	}
}

func TestMerge(t *testing.T) {
	layer := func(done int64) step {
		return step{Status: "pulling abc", Digest: "sha256:abc", Total: 100, Completed: done}
	}
	m := newMerge([]string{"a", "b"})
	var told []string
	add := func(i int, s step) {
		for _, l := range m.add(i, s) {
			told = append(told, fmt.Sprintf("%s %d/%d", l.Status, l.Completed, l.Total))
			if len(l.Nodes) != 2 {
				t.Errorf("%+v", l)
			}
		}
	}
	add(0, step{Status: "pulling manifest"})
	add(0, layer(40))
	add(1, step{Status: "pulling manifest"})
	add(1, layer(10))
	add(0, layer(100))
	add(0, step{Status: "verifying"})
	add(0, step{Status: "success"})
	add(1, step{Error: "disk full"})
	want := []string{
		"pulling abc 40/200", "pulling manifest 0/0", "pulling abc 50/200", "pulling abc 110/200", "verifying 0/0",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
	if end := m.end(); end.Error != "b: disk full (done on a)" || end.Status != "" {
		t.Errorf("end: %+v", end)
	}
	m = newMerge([]string{"a"})
	m.add(0, step{Status: "success"})
	if end := m.end(); end.Status != "success" || end.Error != "" {
		t.Errorf("end: %+v", end)
	}
}

func TestProgressForReadersThatComeLate(t *testing.T) {
	p := newProgress()
	p.tell("manifest", []byte("1\n"))
	p.tell("layer", []byte("2\n"))
	lines, seq, ended, more := p.since(0)
	if string(bytes.Join(lines, nil)) != "1\n2\n" || ended {
		t.Fatalf("%q %v", lines, ended)
	}
	p.tell("layer", []byte("3\n"))
	p.tell("layer", []byte("4\n"))
	<-more
	if lines, _, _, _ = p.since(seq); string(bytes.Join(lines, nil)) != "4\n" {
		t.Errorf("news: %q", lines)
	}
	if lines, _, _, _ = p.since(0); string(bytes.Join(lines, nil)) != "1\n4\n" {
		t.Errorf("from the beginning: %q", lines)
	}
	p.end()
	if _, _, ended, _ = p.since(9); !ended {
		t.Error("no end")
	}
}

func TestPins(t *testing.T) {
	p, now := newPins(), time.Unix(1000, 0)
	p.set("client", "node", now)
	if id, ok := p.get("client", now.Add(pinFor-1)); !ok || id != "node" {
		t.Error("forgotten too early")
	}
	if _, ok := p.get("client", now.Add(pinFor)); ok {
		t.Error("kept too long")
	}
	for i := range 3 * maxPins {
		p.set(fmt.Sprint(i), "node", now)
	}
	if len(p.clients) > maxPins {
		t.Errorf("%d clients are remembered", len(p.clients))
	}
}

func TestWithPlaces(t *testing.T) {
	p := places{Nodes: []string{"a"}}
	for entry, want := range map[string]string{
		`{"name":"m"}`: `{"name":"m","kage":{"nodes":["a"]}}`,
		`{}`:           `{"kage":{"nodes":["a"]}}`,
		`null`:         `null`,
		``:             ``,
	} {
		if got := string(withPlaces([]byte(entry), p)); got != want {
			t.Errorf("%s: %s", entry, got)
		}
	}
}

func TestKnows(t *testing.T) {
	for _, c := range []struct {
		version, since string
		want           knowledge
	}{
		{"0.9.6", "", has},
		{"0.13.2", "0.13.3", tooOld},
		{"0.13.3", "0.13.3", has},
		{"v0.14.0", "0.13.3", has},
		{"0.13.3-rc1", "0.13.3", tooOld},
		{"0.0.0", "0.13.3", unsaid},
		{"", "0.13.3", unsaid},
		{"1.0.0", "0.33.0", has},
	} {
		if got := knows(&mesh.Member{Info: mesh.Info{Ollama: c.version}}, c.since); got != c.want {
			t.Errorf("%q since %q: %d, want %d", c.version, c.since, got, c.want)
		}
	}
}
