package backend

import (
	"fmt"
	"slices"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// speeds are those of a large and slow model, a quick one, and a small one.
func speeds(_ string, m *mesh.Model) Speed {
	s := Speed{Decode: 10, Prefill: 1000, Cold: 10, Output: 100, Samples: 9} // 10 s
	if m == nil {
		return s
	}
	switch m.Key {
	case "slow":
		s.Decode = 1 // 100 s
	case "small":
		s.Decode, s.Cold = 100, 1 // 1 s
	}
	return s
}

// stored is a state with these models on disk, so many GiB each, the first in
// memory.
func stored(sizes map[string]uint64, keys ...string) *State {
	s := disk(1, keys...)
	for i := range s.Catalog {
		s.Catalog[i].Size = sizes[s.Catalog[i].Key] << 30
	}
	s.Resident[0].Size = sizes[keys[0]] << 30
	s.Resident[0].SizeVRAM = s.Resident[0].Size
	return s
}

// Who gets the device next is decided by what a switch costs and relieves, not
// by who came first.
func TestWhoClaimsTheDevice(t *testing.T) {
	many := func(n int, w Work) (ws []Work) {
		for i := range n {
			x := w
			x.Client = fmt.Sprint(x.Client, i)
			ws = append(ws, x)
		}
		return ws
	}
	for name, c := range map[string]struct {
		runs   string // what is in memory, and runs
		line   []Work // who waits, all since 0
		after  float64
		claims string // model for which the device is cleared, "" none
	}{
		"one slow request does not stop many quick ones": {"quick", append(many(1, Work{Key: "slow"}), many(8, Work{Key: "quick"})...), 60, ""},
		"many quick ones stop a slow one, though it came first": {
			"slow", append(many(2, Work{Key: "slow"}), many(8, Work{Key: "quick"})...), 60, "quick",
		},
		"not before their patience is over":       {"slow", many(8, Work{Key: "quick"}), 10, ""},
		"one quick one for a slow one: two loads": {"slow", append(many(3, Work{Key: "slow"}), Work{Key: "quick"}), 21, "quick"},
		"nobody else waits":                       {"quick", many(1, Work{Key: "slow"}), 60, "slow"},
		"who has waited too long is not passed any more": {
			// The worst that it waits for: two loads, its 100 s and their 80 s.
			"quick", append(many(1, Work{Key: "slow"}), many(8, Work{Key: "quick"})...), 601, "slow",
		},
		"a client with many requests is pressing once": {
			"quick", append([]Work{{Key: "slow", Client: "a"}}, slices.Repeat([]Work{{Key: "quick", Client: "b"}}, 40)...), 60, "slow",
		},
		"batch work stops nobody who waits": {
			"slow", append(many(8, Work{Key: "quick", Batch: true}), Work{Key: "slow"}), 900, "",
		},
		"batch work stops batch work":        {"slow", append(many(8, Work{Key: "quick", Batch: true}), Work{Key: "slow", Batch: true}), 60, "quick"},
		"interactive work before batch work": {"slow", append(many(8, Work{Key: "quick", Batch: true}), Work{Key: "other"}), 60, "other"},
	} {
		t.Run(name, func(t *testing.T) {
			sizes := map[string]uint64{"slow": 20, "quick": 20, "other": 20}
			keys := append([]string{c.runs}, slices.DeleteFunc([]string{"slow", "quick", "other"}, func(k string) bool { return k == c.runs })...)
			a := admission(Limits{Speed: speeds, Memory: 30 << 30}, stored(sizes, keys...))
			running(t, enter(a, 0, Work{Key: c.runs, Client: "runs"}))
			for _, w := range c.line {
				waiting(t, enter(a, 0, w))
			}
			got := ""
			if e := a.claim(at(c.after)); e != nil {
				got = e.Key
			}
			if got != c.claims {
				t.Errorf("the device is cleared for %q, not %q", got, c.claims)
			}
		})
	}
}

// What would fit beside the claim's model need not stop for it.
func TestAClaimStopsOnlyWhatIsInItsWay(t *testing.T) {
	sizes := map[string]uint64{"slow": 30, "quick": 20, "small": 2, "third": 20}
	t.Run("a small model goes on", func(t *testing.T) {
		a := admission(Limits{Speed: speeds, Memory: 40 << 30}, stored(sizes, "slow", "quick", "small"))
		slow := enter(a, 0, Work{Key: "slow"})
		running(t, slow, enter(a, 0, Work{Key: "small"}))
		quick, more := enter(a, 1, Work{Key: "quick"}), enter(a, 1, Work{Key: "slow", Client: "b"})
		small := enter(a, 2, Work{Key: "small"})
		for _, e := range slices.Clone(a.running) {
			if e.Key == "small" {
				leave(a, 30, e)
			}
		}
		running(t, small)
		leave(a, 60, slow)
		running(t, quick)
		waiting(t, more)
	})
	t.Run("where only all together leave no room, all make way", func(t *testing.T) {
		a := admission(Limits{Speed: speeds, Memory: 50 << 30}, stored(sizes, "quick", "third", "other", "small"))
		a.state.Model("other").Size = 20 << 30
		quick, third := enter(a, 0, Work{Key: "quick"}), enter(a, 0, Work{Key: "third"})
		a.Progress(at(11), third, 1) // loaded
		running(t, quick, third)
		other := enter(a, 12, Work{Key: "other", Client: "b"})
		later := []*Entry{enter(a, 100, Work{Key: "quick"}), enter(a, 100, Work{Key: "third"})}
		waiting(t, append(later, other)...)
		leave(a, 600, quick)
		running(t, other)
	})
}

// Another context is another load: requests with the one that is in memory, as
// many as there are, do not keep out those with another for ever.
func TestAnotherContextClaimsItsRunner(t *testing.T) {
	a := admission(Limits{Speed: speeds, Parallel: 2}, disk(1, "quick"))
	first := enter(a, 0, Work{Key: "quick", Client: "a"})
	for i := range 40 {
		waiting(t, enter(a, 0, Work{Key: "quick", Client: fmt.Sprint(i), Context: 8192}))
	}
	second := enter(a, 30, Work{Key: "quick", Client: "b"})
	waiting(t, second) // beside the first there is a slot
	leave(a, 31, first)
	waiting(t, second)
	if len(a.running) != 2 || a.running[0].Context != 8192 || !a.running[0].Cold() {
		t.Errorf("%d run", len(a.running))
	}
}

// However many quick ones keep coming, one at a time, a request for a model that
// has to be loaded in their place starts.
func TestNobodyIsPassedForEver(t *testing.T) {
	sizes := map[string]uint64{"slow": 20, "quick": 20}
	a := admission(Limits{Speed: speeds, Memory: 30 << 30}, stored(sizes, "quick", "slow"))
	quick := []*Entry{enter(a, 0, Work{Key: "quick", Client: "q"})}
	slow := enter(a, 0, Work{Key: "slow", Client: "s"})
	n := 0
	for ; !slow.Running(); n++ {
		if n > 200 {
			t.Fatal("200 have passed it")
		}
		quick = append(quick, enter(a, 10*float64(n)+5, Work{Key: "quick", Client: fmt.Sprint(n)}))
		leave(a, 10*float64(n+1), quick[0])
		quick = quick[1:]
	}
	t.Logf("%d passed it", n)
	// 3 times two loads of 10 s, 100 s of its own and 10 s for one of theirs.
	if n > 42 {
		t.Errorf("%d passed it", n)
	}
}

// The device that was cleared for somebody is theirs, whoever came first.
func TestAClaimIsGoodForTheDeviceThatItCleared(t *testing.T) {
	sizes := map[string]uint64{"slow": 20, "quick": 20}
	a := admission(Limits{Parallel: 2, Speed: speeds, Memory: 30 << 30}, stored(sizes, "slow", "quick"))
	ran := []*Entry{enter(a, 0, Work{Key: "slow", Client: "a"}), enter(a, 0, Work{Key: "slow", Client: "b"})}
	running(t, ran...)
	older := []*Entry{enter(a, 1, Work{Key: "slow", Client: "c"}), enter(a, 1, Work{Key: "slow", Client: "d"})}
	var quick []*Entry
	for i := range 8 {
		quick = append(quick, enter(a, 2, Work{Key: "quick", Client: fmt.Sprint(i)}))
	}
	waiting(t, append(older, quick...)...)
	leave(a, 60, ran[0])
	waiting(t, append(older, quick...)...)
	leave(a, 90, ran[1])
	running(t, quick[0], quick[1])
	waiting(t, older...)
}

// A model that is used all the time, without anybody waiting for it, is not taken
// from the device for one request that takes as long as many of them.
func TestWhoIsToComeCounts(t *testing.T) {
	for name, c := range map[string]struct {
		every  float64 // seconds between quick ones of 10 s
		batch  bool
		claims bool // the slow one, of 100 s, after a minute
	}{
		"often":            {12, false, false},
		"seldom":           {300, false, true},
		"often, but batch": {12, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			a := admission(Limits{Parallel: 2, Speed: speeds, Memory: 30 << 30}, stored(map[string]uint64{"slow": 20, "quick": 20}, "quick", "slow"))
			now := 0.0
			for ; now < 600; now += c.every {
				e := enter(a, now, Work{Key: "quick", Client: fmt.Sprint(now), Batch: c.batch})
				running(t, e)
				leave(a, now+10, e)
			}
			running(t, enter(a, now, Work{Key: "quick", Batch: c.batch}))
			slow := enter(a, now, Work{Key: "slow"})
			waiting(t, slow)
			if claim := a.claim(at(now + 60)); (claim == slow) != c.claims {
				t.Errorf("the device is cleared: %v, not %v", claim == slow, c.claims)
			}
		})
	}
}

// What a report says of a start holds for who then comes: with a quick one in the
// line the slow one has no claim.
func TestANewcomersStartIsThatOfWhoComes(t *testing.T) {
	sizes := map[string]uint64{"slow": 20, "quick": 20}
	a := admission(Limits{Parallel: 2, Speed: speeds, Memory: 30 << 30}, stored(sizes, "quick", "slow"))
	running(t, enter(a, 0, Work{Key: "quick", Client: "a"}))
	slow := enter(a, 0, Work{Key: "slow", Client: "b"})
	if a.claim(at(30)) != slow {
		t.Error("with nobody else in the line the slow one has no claim")
	}
	if said := a.Starts(at(30), []string{"quick"})["quick"]; said != 0 {
		t.Errorf("said to start after %v", said)
	}
	running(t, enter(a, 30, Work{Key: "quick", Client: "c"}))
}
