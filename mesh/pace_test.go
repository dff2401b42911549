package mesh

import (
	"math"
	"reflect"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	tests := []struct {
		n                int
		period, spacing  time.Duration
		packetsPerSecond float64
	}{
		{1, 250 * time.Millisecond, 50 * time.Millisecond, 4},
		{4, 250 * time.Millisecond, 50 * time.Millisecond, 16},
		{25, 250 * time.Millisecond, 62500 * time.Microsecond, 100},
		{200, 2 * time.Second, 500 * time.Millisecond, 100},
		{500, 5 * time.Second, 1250 * time.Millisecond, 100},
	}
	for _, tt := range tests {
		if got := beaconPeriod(tt.n); got != tt.period {
			t.Errorf("%d members: period %v, want %v", tt.n, got, tt.period)
		}
		if got := beaconSpacing(tt.n); got != tt.spacing {
			t.Errorf("%d members: spacing %v, want %v", tt.n, got, tt.spacing)
		}
		if got := float64(tt.n) / beaconPeriod(tt.n).Seconds(); got != tt.packetsPerSecond {
			t.Errorf("%d members: %v packets per second, want %v", tt.n, got, tt.packetsPerSecond)
		}
	}
}

func TestSignificant(t *testing.T) {
	base := func() *Load {
		return &Load{Up: true, Running: 1, FreeVRAM: 10 << 30, Models: []ModelLoad{{Key: "a", Resident: true, Decode: 50, Start: 1, Slots: 2}}}
	}
	tests := []struct {
		name   string
		change func(*Load)
		want   bool
	}{
		{"nothing", func(*Load) {}, false},
		{"number", func(l *Load) { l.Seq++ }, false},
		{"down", func(l *Load) { l.Up = false }, true},
		{"draining", func(l *Load) { l.Draining = true }, true},
		{"foreign work", func(l *Load) { l.Foreign = true }, true},
		{"in trouble", func(l *Load) { l.Trouble = 5 }, true},
		{"one request more", func(l *Load) { l.Running++ }, true},
		{"one waits", func(l *Load) { l.Waiting++ }, true},
		{"a little memory", func(l *Load) { l.FreeVRAM -= 100 << 20 }, false},
		{"much memory", func(l *Load) { l.FreeVRAM /= 2 }, true},
		{"memory known", func(l *Load) { l.FreeRAM = 1 << 30 }, true},
		{"evicted", func(l *Load) { l.Models[0].Resident = false }, true},
		{"loads", func(l *Load) { l.Models[0].Loading = true }, true},
		{"another model", func(l *Load) { l.Models[0].Key = "b" }, true},
		{"a model more", func(l *Load) { l.Models = append(l.Models, ModelLoad{Key: "b"}) }, true},
		{"slots", func(l *Load) { l.Models[0].Slots = 4 }, true},
		{"speed jitter", func(l *Load) { l.Models[0].Decode = 52 }, false},
		{"speed", func(l *Load) { l.Models[0].Decode = 20 }, true},
		{"starts a bit later", func(l *Load) { l.Models[0].Start = 1.3 }, false},
		{"starts later", func(l *Load) { l.Models[0].Start = 3 }, true},
		{"expiry moved", func(l *Load) { l.Models[0].Expires = epoch }, false},
	}
	for _, tt := range tests {
		l := base()
		tt.change(l)
		if got := significant(base(), l); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if significant(nil, nil) || !significant(nil, base()) {
		t.Error("the first report")
	}
}

func TestNewsAreSentOnAsOftenInEveryMesh(t *testing.T) {
	for _, tt := range []struct{ n, mult int }{{0, 12}, {1, 12}, {9, 12}, {10, 6}, {32, 6}, {99, 6}, {100, 4}, {500, 4}, {999, 4}, {1000, 3}} {
		if got := retransmitMult(12, tt.n); got != tt.mult {
			t.Errorf("%d members: factor %d, want %d", tt.n, got, tt.mult)
		}
		// As memberlist does it (retransmitLimit).
		if times := tt.mult * int(math.Ceil(math.Log10(float64(tt.n+1)))); tt.n > 0 && times != 12 {
			t.Errorf("%d members: sent %d times", tt.n, times)
		}
	}
	if got := retransmitMult(1, 500); got != 1 {
		t.Errorf("factor %d", got)
	}
}

// What grows with the mesh is the time between looks and Views, not their share of
// a core.
func TestWorkPerSecondIsBounded(t *testing.T) {
	for n := 1; n <= 2000; n *= 2 {
		perLook, perView := float64(n)*1e-6, float64(n)*0.1e-6 // seconds, about
		if share := perLook / lookSpacing(n).Seconds(); share > 0.01 {
			t.Errorf("%d members: looks take %.3f of a core while others join", n, share)
		}
		if share := perLook / lookPeriod(n).Seconds(); share > 0.001 {
			t.Errorf("%d members: looks take %.4f of a core", n, share)
		}
		if share := perView / publishSpacing(n).Seconds(); share > 0.01 {
			t.Errorf("%d members: Views take %.3f of a core", n, share)
		}
		if packets := float64(n-1) / beaconPeriod(n).Seconds(); packets > 101 {
			t.Errorf("%d members: %.0f reports a second", n, packets)
		}
		if packets := float64(n-1) / beaconSpacing(n).Seconds(); packets > 401 {
			t.Errorf("%d members: %.0f reports a second when all changes", n, packets)
		}
	}
}

func TestSlowerStretchesAllOfTheProfilesTime(t *testing.T) {
	p, q := DefaultProfile(), DefaultProfile().Slower(2).Slower(3)
	a, b := reflect.ValueOf(p), reflect.ValueOf(q)
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		was, ok := reflect.TypeAssert[time.Duration](a.Field(i))
		if !ok {
			if name != "Slow" && a.Field(i).Int() != b.Field(i).Int() {
				t.Errorf("%s is %v, was %v", name, b.Field(i), a.Field(i))
			}
			continue
		}
		if got := time.Duration(b.Field(i).Int()); got != 6*was {
			t.Errorf("%s is %s, was %s", name, got, was)
		}
	}
	if p.slow(time.Second) != time.Second || q.slow(time.Second) != 6*time.Second {
		t.Errorf("what it does not name: %s and %s", p.slow(time.Second), q.slow(time.Second))
	}
}

// Reports wait for the loop in the order in which they came, and wake it once.
func TestReportsWait(t *testing.T) {
	r := reports{ready: make(chan struct{}, 1)}
	for i := range uint64(3) {
		r.add(&Load{Seq: i})
	}
	<-r.ready
	select {
	case <-r.ready:
		t.Error("woken twice")
	default:
	}
	list := r.take()
	if len(list) != 3 || list[0].Seq != 0 || list[2].Seq != 2 || len(r.take()) != 0 {
		t.Errorf("took %v", list)
	}
	for range maxReports + 5 {
		r.add(&Load{})
	}
	<-r.ready
	if n := len(r.take()); n != maxReports {
		t.Errorf("%d wait", n)
	}
}

func TestWhoIsToldAgain(t *testing.T) {
	for _, tt := range []struct{ others, want int }{{0, 3}, {3, 3}, {32, 3}, {33, 1}, {500, 1}} {
		if got := retold(tt.others); got != tt.want {
			t.Errorf("%d others: %d are told again, want %d", tt.others, got, tt.want)
		}
	}
}
