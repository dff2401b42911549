package router

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What a look is late by counts for nobody's silence.
func TestPardon(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	tests := []struct {
		name                  string
		fed, due, now, hungry int // ms
	}{
		{"on time", 0, 500, 500, 500},
		{"early, after the limit changed", 0, 500, 400, 400},
		{"late by a stop of three seconds", 0, 500, 3500, 500},
		{"late, and fed meanwhile", 3000, 500, 3500, 0},
		{"a second stop", 3000, 4000, 9000, 1000},
	}
	for _, tt := range tests {
		if got := ms(tt.now) - pardon(ms(tt.fed), ms(tt.due), ms(tt.now)); got != ms(tt.hungry) {
			t.Errorf("%s: hungry for %v, want %v", tt.name, got, ms(tt.hungry))
		}
	}
}

func TestNextLook(t *testing.T) {
	for _, tt := range []struct {
		limit, hungry time.Duration
		doubts        bool
		want          time.Duration
	}{
		{2 * time.Minute, 0, true, lookEvery},
		{2 * time.Minute, 0, false, 7500 * time.Millisecond},
		{2 * time.Minute, 118 * time.Second, false, 2 * time.Second},
		{4 * time.Second, 0, false, lookEvery},
		{4 * time.Second, 3900 * time.Millisecond, true, 100 * time.Millisecond},
		{time.Second, 2 * time.Second, false, 0},
	} {
		if got := nextLook(tt.limit, tt.hungry, tt.doubts); got != tt.want {
			t.Errorf("%v of %v, doubts %v: %v, want %v", tt.hungry, tt.limit, tt.doubts, got, tt.want)
		}
	}
}

// A process that is stopped again and again judges no node for that; one that
// runs judges a silent one within its limit.
func TestWatchdog(t *testing.T) {
	errSilent := errors.New("silent")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		start := time.Now()
		w := newWatchdog(cancel, errSilent, 4*time.Second, nil)
		defer w.stop()
		for range 7 { // fed each second, then no more
			time.Sleep(time.Second)
			w.feed()
		}
		<-ctx.Done()
		if took := time.Since(start); took < 11*time.Second || took > 11500*time.Millisecond || !errors.Is(context.Cause(ctx), errSilent) {
			t.Errorf("%v after %v", context.Cause(ctx), took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		w := newWatchdog(cancel, errSilent, 4*time.Second, nil)
		defer w.stop()
		for range 10 { // each look comes two seconds after it was due
			time.Sleep(100 * time.Millisecond)
			w.due.Add(-int64(2 * time.Second))
			time.Sleep(400 * time.Millisecond)
		}
		if ctx.Err() != nil {
			t.Error("it judged by time in which nothing ran")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		_, cancel := context.WithCancelCause(t.Context())
		asked := 0
		w := newWatchdog(cancel, errSilent, time.Minute, func() { asked++ })
		defer w.stop()
		time.Sleep(10*quietFor + lookEvery)
		synctest.Wait()
		if asked < 9 || asked > 11 {
			t.Errorf("asked %d times in ten times the quiet", asked)
		}
	})
}
