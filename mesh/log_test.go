package mesh

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestEngineLine(t *testing.T) {
	tests := []struct {
		line  string
		level slog.Level
		text  string
	}{
		{"[DEBUG] memberlist: Stream connection from=1.2.3.4:5\n", slog.LevelDebug, "memberlist: Stream connection from=1.2.3.4:5"},
		{"[INFO] serf: EventMemberJoin: x 1.2.3.4", slog.LevelDebug, "serf: EventMemberJoin: x 1.2.3.4"},
		{"[WARN] memberlist: Compound request had 3 truncated messages", slog.LevelWarn, "memberlist: Compound request had 3 truncated messages"},
		{"[ERR] memberlist: Decrypt packet failed: no", slog.LevelWarn, "memberlist: Decrypt packet failed: no"},
		{"[ERROR] memberlist: x", slog.LevelWarn, "memberlist: x"},
		{"[WARN] serf: Shutdown without a Leave", slog.LevelDebug, "serf: Shutdown without a Leave"},
		{"no level", slog.LevelDebug, "no level"},
		{"", slog.LevelDebug, ""},
		{"[WARN] node '\x1b[2J\nFAKE LINE'", slog.LevelWarn, "node '[2JFAKE LINE'"},
	}
	for _, tt := range tests {
		if level, text := engineLine(tt.line); level != tt.level || text != tt.text {
			t.Errorf("%q: %v %q", tt.line, level, text)
		}
	}
}

func TestEngineLogDoesNotFlood(t *testing.T) {
	var out bytes.Buffer
	log := newEngineLog(slog.New(slog.NewTextHandler(&out, nil)))
	for i := range 1000 {
		log.Printf("[ERR] memberlist: Decrypt packet failed: no installed keys from=10.0.0.%d:%d", i%250, i)
	}
	log.Printf("[WARN] memberlist: something else")
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}

func TestLimiter(t *testing.T) {
	l := newLimiter(time.Minute)
	now := epoch
	if ok, _ := l.pass("a", now); !ok {
		t.Error("the first was held back")
	}
	for range 5 {
		if ok, _ := l.pass("a", now.Add(59*time.Second)); ok {
			t.Error("a repeat got through")
		}
	}
	if ok, missed := l.pass("a", now.Add(time.Minute)); !ok || missed != 5 {
		t.Errorf("after the window: %v, %d missed", ok, missed)
	}
	for i := range 10 * maxKinds {
		l.pass(strings.Repeat("x", i), now)
	}
	if len(l.kinds) > maxKinds {
		t.Errorf("%d kinds are remembered", len(l.kinds))
	}
	if ok, _ := l.pass("new", now.Add(time.Hour)); !ok {
		t.Error("no room is made for new kinds")
	}
}

func FuzzEngineLine(f *testing.F) {
	f.Add("[WARN] memberlist: x from=1.2.3.4:5")
	f.Add("[")
	f.Fuzz(func(t *testing.T, line string) {
		_, text := engineLine(line)
		if strings.ContainsAny(text, "\n\r\x1b") || len(text) > 400 {
			t.Fatalf("%q became %q", line, text)
		}
		_ = shape(text)
	})
}
