package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinesComeInOrderAndSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &lines{to: &out}
		_, _ = l.Write([]byte("one\n"))
		_, _ = l.Write([]byte("two\n"))
		if out.Len() > 0 {
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
			t.Errorf("%d bytes at the end", out.Len())
		}
	})
}
