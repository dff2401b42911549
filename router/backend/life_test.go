package backend

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestLifeEndsWithLongSilence(t *testing.T) {
	var l life
	l.begin()
	first := l.now.Load()
	start := time.Unix(1000, 0)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	up, down := &State{Up: true}, &State{Since: start}
	if wait := l.saw(up, start); wait != 0 || first.Err() != nil {
		t.Fatalf("up: wait %v, %v", wait, first.Err())
	}
	if wait := l.saw(down, at(4*time.Second)); wait != frozenAfter-4*time.Second || first.Err() != nil {
		t.Fatalf("down for 4 s: wait %v, %v", wait, first.Err())
	}
	if wait := l.saw(up, at(5*time.Second)); wait != 0 || first.Err() != nil || l.now.Load() != first {
		t.Fatal("back in time, it is the same life")
	}
	if wait := l.saw(down, at(frozenAfter)); wait != 0 || !errors.Is(context.Cause(first), ErrFrozen) {
		t.Fatalf("down for long: wait %v, %v", wait, context.Cause(first))
	}
	if wait := l.saw(down, at(2*frozenAfter)); wait != 0 || l.now.Load() != first {
		t.Fatal("silence begins no life")
	}
	if l.saw(up, at(3*frozenAfter)); l.now.Load().Err() != nil {
		t.Fatal("back, and dead all the same")
	}
}
