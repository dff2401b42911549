package mesh

import (
	"fmt"
	"testing"
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
