package main

import (
	"runtime"
	"testing"
)

func TestHeadroomByWhatIsInUse(t *testing.T) {
	for _, tt := range []struct {
		inUse uint64
		want  int
	}{
		{0, 300}, {4 << 20, 300}, {6 << 20, 200}, {12 << 20, 100}, {24 << 20, 50}, {200 << 20, 50},
	} {
		if got := percent(tt.inUse); got != tt.want {
			t.Errorf("%d MiB in use: %d %%, want %d", tt.inUse>>20, got, tt.want)
		}
	}
	runtime.GC()
	if inUse() == 0 {
		t.Error("the runtime does not say what is in use")
	}
}
