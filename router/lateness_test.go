package router

import (
	"testing"
	"time"
)

// What a stay weighs is a matter of its length alone: looked at half-way, what
// is over and what is to come add up to what was expected at the beginning, so
// that a request that looks again does not change its mind by the looking.
func TestLatenessAddsUp(t *testing.T) {
	whole := Estimate{Wait: 100 * time.Second, Decode: 80 * time.Second}
	if got := whole.Lateness(); got != 324*time.Second { // 180^2/100
		t.Errorf("a stay of 180 s weighs %v more", got)
	}
	over := Estimate{Wait: 60 * time.Second}
	left := Estimate{Wait: 40 * time.Second, Decode: 80 * time.Second, Age: 60 * time.Second}
	if got := over.Lateness() + left.Lateness(); got != whole.Lateness() {
		t.Errorf("in two parts it weighs %v, in one %v", got, whole.Lateness())
	}
	if got := whole.Total(); got != 504*time.Second {
		t.Errorf("the cost is %v", got)
	}
}
