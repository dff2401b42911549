package need

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// recorder is a test that only remembers how it ended.
type recorder struct {
	testing.TB
	ended string
}

func (*recorder) Helper() {}

func (r *recorder) Skip(args ...any) {
	r.ended = "skip: " + fmt.Sprint(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.ended = "fail: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestMissing(t *testing.T) {
	for ci, want := range map[string]string{
		"":      "skip: needs a moon",
		"false": "skip: needs a moon",
		"true":  "fail: needs a moon (with CI=true this fails instead of being skipped)",
	} {
		t.Setenv("CI", ci)
		var r recorder
		var run sync.WaitGroup
		run.Go(func() { Missing(&r, "needs a moon") })
		run.Wait()
		if r.ended != want {
			t.Errorf("CI=%q: %q, want %q", ci, r.ended, want)
		}
	}
}
