package mesh

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestViewNamesAndLookup(t *testing.T) {
	named := func(id, host string) *Member { return &Member{ID: idOf(id), Status: Alive, Info: Info{Hostname: host}} }
	v := NewView(1, epoch, []*Member{
		named("bcde", "ubuntu"), named("abcd", "ubuntu"), named("cdef", "studio"), named("cdeg", ""),
	})
	var names []string
	for _, m := range v.Members() {
		names = append(names, m.Name)
	}
	if got := fmt.Sprint(names); got != "[ubuntu-abcd ubuntu-bcde studio cdeg]" {
		t.Errorf("names %v", got)
	}
	for in, want := range map[string]string{
		"studio": "cdef", "ubuntu-bcde": "bcde", string(idOf("abcd")): "abcd", "abcda": "abcd",
		"ubuntu": "", "abc": "", "nobody": "",
	} {
		m, ok := v.Lookup(in)
		if ok != (want != "") || (ok && m.ID != idOf(want)) {
			t.Errorf("%q finds %v", in, m)
		}
	}
	if _, ok := NewView(1, epoch, []*Member{named("aaaabbb", "x"), named("aaaaccc", "y")}).Lookup("aaaa"); ok {
		t.Error("a prefix of two members finds one")
	}
	if v.Self() != nil {
		t.Error("a View of others has a self")
	}
}

func TestViewIndexesModelsOfTheLiving(t *testing.T) {
	of := func(id string, s Status, keys ...string) *Member {
		c := &Card{}
		for _, k := range keys {
			c.Catalog = append(c.Catalog, Model{Key: k})
		}
		return &Member{ID: idOf(id), Status: s, Card: c, Info: Info{Hostname: id}}
	}
	v := NewView(1, epoch, []*Member{
		of("b", Alive, "x", "y"), of("a", Alive, "x"), of("c", Failed, "x", "z"), {ID: idOf("d"), Status: Alive},
	})
	if got := fmt.Sprint(v.Models()); got != "[x y]" {
		t.Errorf("models %v", got)
	}
	var holders []NodeID
	for _, h := range v.Holders("x") {
		holders = append(holders, h.Member.ID)
		if h.Model.Key != "x" {
			t.Errorf("holder of %s", h.Model.Key)
		}
	}
	if len(holders) != 2 || holders[0] != idOf("a") || holders[1] != idOf("b") {
		t.Errorf("holders %v", holders)
	}
	if v.Holders("z") != nil {
		t.Error("a dead node holds a model")
	}
}

// over reports whether m has been gone for too long to be shown.
func over(m *Member, now time.Time) bool {
	until := shownUntil(m)
	return !until.IsZero() && now.After(until)
}

// Whatever happens in whatever order, a View that was made from the one before is
// the View that would be made from nothing.
func TestViewsFollowEachOther(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"b", "c", "d", "e", "f"}
	hosts := []string{"ubuntu", "studio"}
	cards := []*Card{nil, {Catalog: Catalog{{Key: "x"}}}, {Catalog: Catalog{{Key: "x"}, {Key: "y"}}}}
	s := newScript(t)
	seq := uint64(0)
	kept, made := 0, 0
	for step := range 3000 {
		s.after(time.Duration(random.IntN(int(leftShown / 20))))
		name := names[random.IntN(len(names))]
		switch r := s.members[idOf(name)]; random.IntN(12) {
		case 0:
			var list []sighting
			for _, other := range names {
				if random.IntN(4) > 0 {
					list = append(list, with(seen(other, []Status{Alive, Alive, Alive, Failed, Left}[random.IntN(5)]), func(g *sighting) {
						g.Info.Hostname = hosts[random.IntN(2)]
						g.RTT = time.Duration(random.IntN(2)) * time.Second
					}))
				}
			}
			s.see(1, list...)
		case 1:
			if r != nil {
				c := *r.member
				c.Card = cards[random.IntN(len(cards))]
				s.put(r, &c)
			}
		default:
			seq++
			s.heard(s.now, report(name, 1, seq))
		}
		before := s.last
		got := s.view(s.now)
		if before != nil && got.roster == before.roster {
			kept++
		} else {
			made++
		}
		want := NewView(got.Generation, s.now, slices.Clone(got.Members()))
		if shown := len(slices.DeleteFunc(slices.Collect(maps.Values(s.members)), func(r *record) bool { return over(r.member, s.now) })); len(got.Members()) != shown || !reflect.DeepEqual(listed(got.roster), listed(want.roster)) || !reflect.DeepEqual(got.members, want.members) {
			t.Fatalf("step %d: %d members of %d\n%+v\nwant\n%+v", step, len(got.Members()), shown, listed(got.roster), listed(want.roster))
		}
		for _, r := range s.members {
			if m, ok := got.Member(r.member.ID); ok == over(r.member, s.now) || ok && m != r.member {
				t.Fatalf("step %d: %s is %+v, not %+v", step, r.member.ID, m, r.member)
			}
		}
		for _, key := range []string{"x", "y"} {
			for _, h := range got.Holders(key) {
				if m, _ := got.Member(h.Member.ID); m != h.Member {
					t.Fatalf("step %d: the holder is not the member", step)
				}
			}
		}
	}
	t.Logf("%d followed, %d were made anew", kept, made)
	if kept < 500 || made < 100 {
		t.Error("the test does not see both")
	}
}

// listed is what a roster says, without what has been noted beside it.
func listed(r *roster) []any {
	type holder struct {
		by    int
		model *Model
	}
	held := make(map[string][]holder)
	for key, of := range r.held {
		for i := range of.held {
			held[key] = append(held[key], holder{of.held[i].by, of.held[i].model})
		}
	}
	return []any{r.self, r.index, held}
}
