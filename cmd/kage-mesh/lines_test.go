package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinesComeInOrderAndSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out syncBuffer
		l := &lines{to: &out}
		_, _ = l.Write([]byte("one\n"))
		_, _ = l.Write([]byte("two\n"))
		if out.String() != "" {
			t.Errorf("written at once: %q", out.String())
		}
		time.Sleep(linesFor)
		synctest.Wait()
		if out.String() != "one\ntwo\n" {
			t.Errorf("after a moment: %q", out.String())
		}
		_, _ = l.Write([]byte("three\n"))
		l.flush()
		long := strings.Repeat("x", maxLines)
		_, _ = l.Write([]byte(long)) // waits for nothing
		if out.String() != "one\ntwo\nthree\n"+long {
			t.Errorf("%d bytes at the end", len(out.String()))
		}
	})
}
