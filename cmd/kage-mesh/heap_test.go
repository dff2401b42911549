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
		{0, 500}, {4 << 20, 500}, {10 << 20, 200}, {20 << 20, 100}, {200 << 20, 100},
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
