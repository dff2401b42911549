package mesh

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/hashicorp/serf/serf"
)

func gossiped(name, addr string, port uint16) *serf.Member {
	return &serf.Member{Name: name, Addr: net.ParseIP(addr), Port: port, Tags: map[string]string{"pp": "8tg"}}
}

func TestGatekeeper(t *testing.T) {
	self := idOf("self")
	var claims []serf.Member
	g := &gatekeeper{
		self: self, addr: netip.MustParseAddrPort("192.0.2.1:11437"), limit: 3,
		claim: func(m serf.Member) { claims = append(claims, m) },
	}
	tests := []struct {
		name   string
		member *serf.Member
		want   error
	}{
		{"a node", gossiped(string(idOf("a")), "192.0.2.2", 1), nil},
		{"itself", gossiped(string(self), "192.0.2.1", 11437), nil},
		{"a host name", gossiped("ubuntu", "192.0.2.2", 1), errNodeName},
		{"no name", gossiped("", "192.0.2.2", 1), errNodeName},
		{"no address", &serf.Member{Name: string(idOf("b")), Port: 1}, errNodeAddr},
		{"everywhere", gossiped(string(idOf("b")), "0.0.0.0", 1), errNodeAddr},
		{"everyone", gossiped(string(idOf("b")), "224.0.0.1", 1), errNodeAddr},
		{"no port", gossiped(string(idOf("b")), "192.0.2.2", 0), errNodeAddr},
		{"itself elsewhere", gossiped(string(self), "192.0.2.9", 11437), errNotUs},
		{"itself on another port", gossiped(string(self), "192.0.2.1", 1), errNotUs},
	}
	for _, tt := range tests {
		if got := g.NotifyMerge([]*serf.Member{tt.member}); !errors.Is(got, tt.want) || (got == nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if len(claims) != 2 {
		t.Errorf("%d claims", len(claims))
	}
	// A list is let through: each member of it is asked for on its own.
	if err := g.NotifyMerge([]*serf.Member{gossiped("bad", "0.0.0.0", 0), gossiped("worse", "", 0)}); err != nil {
		t.Errorf("a list: %v", err)
	}
}

func TestGatekeeperBoundsTheMesh(t *testing.T) {
	g := &gatekeeper{self: idOf("self"), limit: 10, claim: func(serf.Member) {}}
	node := func(i int) *serf.Member {
		return gossiped(string(idOf("n"+string(rune('a'+i%26))+string(rune('a'+i/26)))), "192.0.2.2", 1)
	}
	refused := 0
	for i := range 100 {
		if errors.Is(g.check(node(i)), errCrowd) {
			refused++
		}
	}
	if refused != 90 || len(g.known) != 10 {
		t.Errorf("%d of 100 refused, %d known", refused, len(g.known))
	}
	if err := g.check(node(3)); err != nil {
		t.Errorf("one that is in: %v", err)
	}
	g.forget([]sighting{{ID: idOf("zz")}}) // the engine has reaped the others
	if err := g.check(node(50)); err != nil {
		t.Errorf("no room after others are gone: %v", err)
	}
}

func TestStatusOf(t *testing.T) {
	for in, want := range map[serf.MemberStatus]Status{
		serf.StatusAlive: Alive, serf.StatusLeaving: Left, serf.StatusLeft: Left, serf.StatusFailed: Failed, serf.StatusNone: Failed,
	} {
		if got := statusOf(in); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}

func TestParseCard(t *testing.T) {
	c, err := parseCard([]byte(`{"parallel":-3,"max_loaded":-1,"ollama":"0.1\u001b[31m","later":1,
		"catalog":[{"key":"b"},{"key":""},{"key":"a"},{"key":"b"},{"key":"` + strings.Repeat("k", maxKey+1) + `"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, m := range c.Catalog {
		keys = append(keys, m.Key)
	}
	if fmt.Sprint(keys) != "[a b]" || c.Parallel != 1 || c.MaxLoad != 0 || c.Ollama != "0.1[31m" {
		t.Errorf("got %v %+v", keys, c)
	}
	for _, bad := range []string{"", "[]", `{"catalog":7}`, "{"} {
		if _, err := parseCard([]byte(bad)); err == nil {
			t.Errorf("%q is a card", bad)
		}
	}
}

func FuzzParseCard(f *testing.F) {
	f.Add([]byte(`{"hardware":{"gpus":[{"vendor":"nvidia"}]},"catalog":[{"key":"a","tag":{"name":"a"}}],"parallel":4}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := parseCard(body)
		if err != nil {
			return
		}
		for i := range c.Catalog {
			if k := c.Catalog[i].Key; k == "" || (i > 0 && k <= c.Catalog[i-1].Key) {
				t.Fatalf("catalog is not sorted: %q", k)
			}
		}
		_ = Info{}.describe(c, "x")
	})
}

// Tags are read when they are others than at the last look, and only then: Serf
// replaces the map of a member whose tags change.
func TestTagsAreReadOnce(t *testing.T) {
	e := &engine{infos: make(map[NodeID]*readTags)}
	first := map[string]string{tagHostname: "studio"}
	if got := e.info("a", first); got.Hostname != "studio" {
		t.Errorf("read %+v", got)
	}
	first[tagHostname] = "changed in place" // which Serf does not do
	if got := e.info("a", first); got.Hostname != "studio" {
		t.Errorf("the same tags were read again: %+v", got)
	}
	if got := e.info("a", map[string]string{tagHostname: "moved"}); got.Hostname != "moved" {
		t.Errorf("other tags were not read: %+v", got)
	}
	if got := e.info("b", nil); got != (Info{}) {
		t.Errorf("no tags are %+v", got)
	}
}
