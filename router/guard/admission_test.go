package guard

import (
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/apikeys"
)

// One script asks for everything; a person who comes later still gets in.
func TestOneClientLeavesRoomForOthers(t *testing.T) {
	a, now := newAdmission(16), time.Now()
	fill := func(name string, zone Zone) (got int) {
		for range 100 {
			leave, _, _ := a.enter(name, nil, zone, now)
			if leave == nil {
				return got
			}
			got++
		}
		return got
	}
	if got := fill("script", LAN); got != 8 {
		t.Errorf("the first alone got %d of 16 places, want half", got)
	}
	if got := fill("person", LAN); got != 5 {
		t.Errorf("the second got %d, want a third of 16", got)
	}
	if got := fill("third", LAN); got != 3 {
		t.Errorf("the third got %d, want the rest", got)
	}
	if leave, retry, _ := a.enter("fourth", nil, LAN, now); leave != nil || retry <= 0 {
		t.Error("there was a place above the limit")
	}
	if a.running != 16 {
		t.Errorf("%d running", a.running)
	}
}

func TestProgramsOfThisMachineShareOneAddress(t *testing.T) {
	a := newAdmission(16)
	n := 0
	for {
		leave, _, _ := a.enter("127.0.0.1", nil, Here, time.Now())
		if leave == nil {
			break
		}
		n++
	}
	if n != 14 {
		t.Errorf("%d places of 16, want all but an eighth", n)
	}
}

func TestPlacesAreGivenBack(t *testing.T) {
	a, now := newAdmission(2), time.Now()
	leave, _, _ := a.enter("a", nil, LAN, now)
	leave()
	leave() // twice does no harm
	if a.running != 0 || len(a.clients) != 0 {
		t.Errorf("%d running, %d clients remembered", a.running, len(a.clients))
	}
}

func TestKeyLimits(t *testing.T) {
	a, now := newAdmission(100), time.Now()
	key := &apikeys.Key{Name: "k", Rate: 60, Running: 3}
	var leaves []func()
	for range 3 {
		leave, _, why := a.enter("key:k", key, LAN, now)
		if leave == nil {
			t.Fatal(why)
		}
		leaves = append(leaves, leave)
	}
	if leave, _, _ := a.enter("key:k", key, LAN, now); leave != nil {
		t.Error("a fourth at once")
	}
	for _, l := range leaves {
		l()
	}
	took := 3
	var wait time.Duration
	for range 100 {
		leave, retry, _ := a.enter("key:k", key, LAN, now)
		if leave == nil {
			wait = retry
			break
		}
		took++
		leave()
	}
	if took != 10 || wait <= 0 || wait > time.Second {
		t.Errorf("burst of %d (want 10: ten seconds' worth of 60 a minute), then wait %v", took, wait)
	}
	for i := range 30 { // half a minute later, one per second
		now = now.Add(time.Second)
		leave, _, why := a.enter("key:k", key, LAN, now)
		if leave == nil {
			t.Fatalf("second %d: %s", i, why)
		}
		leave()
	}
	if leave, _, _ := a.enter("key:k", key, LAN, now); leave != nil {
		t.Error("faster than 60 a minute")
	}
	if leave, _, _ := a.enter("key:k", key, LAN, now.Add(-time.Hour)); leave != nil {
		t.Error("a clock set back gave tokens")
	}
}

func TestMemoryOfBodies(t *testing.T) {
	const mib = 1 << 20
	m := newMemory(100 * mib)
	of := func(client string, zone Zone) *hold { return &hold{memory: m, client: client, zone: zone} }
	a, b := of("a", LAN), of("b", LAN)
	if !a.take(150 * mib) {
		t.Error("one request alone must pass whatever its size: it is bounded elsewhere")
	}
	if b.take(mib) {
		t.Error("a second one came in above the limit")
	}
	if p := of("p", LAN); !p.take(small) {
		t.Error("an ordinary prompt must pass beside it")
	}
	a.drop()
	b.drop()
	if !a.take(60*mib) || !b.take(40*mib) || b.take(mib) {
		t.Error("the limit is not kept")
	}
	a.drop()
	b.drop()

	// A client alone leaves half for whoever comes next, one beside it a third.
	fill := func(client string, zone Zone) (holds []*hold) {
		for {
			h := of(client, zone)
			if !h.take(10*mib + small) {
				h.drop()
				return holds
			}
			holds = append(holds, h)
		}
	}
	script, person := fill("script", LAN), fill("person", LAN)
	if len(script) != 5 || len(person) != 3 {
		t.Errorf("the first holds %d of 10, the second %d; want 5 and 3", len(script), len(person))
	}
	for _, h := range append(script, person...) {
		h.drop()
	}
	here := fill("127.0.0.1", Here)
	if len(here) != 8 {
		t.Errorf("programs of this machine hold %d of 10, want all but an eighth", len(here))
	}
	for _, h := range here {
		h.drop()
	}
	if m.used != 0 || len(m.clients) != 0 {
		t.Errorf("%d bytes of %d clients left", m.used, len(m.clients))
	}
}
