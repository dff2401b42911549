package mesh

import (
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
