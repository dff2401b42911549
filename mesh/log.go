package mesh

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// newEngineLog gives the gossip libraries a *log.Logger whose lines end up in
// our log, at the level that a person would give them.
func newEngineLog(l *slog.Logger) *log.Logger {
	return log.New(&engineLog{log: l, quiet: newLimiter(time.Minute)}, "", 0)
}

// engineLog takes one line per Write, as log.Logger writes them.
type engineLog struct {
	log   *slog.Logger
	quiet *limiter
}

func (e *engineLog) Write(p []byte) (int, error) {
	level, text := engineLine(string(p))
	if !e.log.Enabled(context.Background(), level) {
		return len(p), nil
	}
	// What a stranger's packets cause must not fill the disk.
	if level > slog.LevelDebug {
		pass, missed := e.quiet.pass(shape(text), time.Now())
		if !pass {
			return len(p), nil
		}
		if missed > 0 {
			e.log.Log(context.Background(), level, "gossip engine", "line", text, "repeated", missed)
			return len(p), nil
		}
	}
	e.log.Log(context.Background(), level, "gossip engine", "line", text)
	return len(p), nil
}

// engineLine splits a line such as "[WARN] memberlist: text" and re-levels it.
// The libraries write INFO for every membership change, which we log ourselves
// with names, and ERR for every packet that they cannot read and every peer
// that does not answer, which are warnings here: nothing is broken.
func engineLine(line string) (slog.Level, string) {
	line = strings.TrimSpace(line)
	level := slog.LevelDebug
	if rest, ok := strings.CutPrefix(line, "["); ok {
		if name, text, ok := strings.Cut(rest, "]"); ok && len(name) <= 5 {
			line = strings.TrimSpace(text)
			switch name {
			case "WARN", "ERR", "ERROR":
				level = slog.LevelWarn
			}
		}
	}
	for _, expected := range []string{
		"serf: Shutdown without a Leave",
		"memberlist: Refuting", // a false alarm that was just put right
		"memberlist: Failed to send", "memberlist: failed to receive: EOF",
		"memberlist: Push/Pull with", "memberlist: Failed fallback TCP ping", "memberlist: Was able to connect to",
		"memberlist: ignoring alive message", // we refused it, and said why
		"memberlist: Conflicting address",
		"serf: Name conflict", "serf: Node name conflicts",
	} {
		if strings.HasPrefix(line, expected) {
			level = slog.LevelDebug
		}
	}
	return level, clean(line, 400)
}

// shape is what a line has in common with others of its kind: addresses,
// names and numbers are what differs.
func shape(line string) string {
	line, _, _ = strings.Cut(line, " from=")
	var b strings.Builder
	for _, r := range line {
		if r >= '0' && r <= '9' {
			continue
		}
		if b.WriteRune(r); b.Len() >= 48 {
			break
		}
	}
	return b.String()
}

// limiter lets one event of a kind through per window.
type limiter struct {
	window time.Duration

	mu    sync.Mutex
	kinds map[string]*kind
}

type kind struct {
	until  time.Time
	missed int
}

func newLimiter(window time.Duration) *limiter {
	return &limiter{window: window, kinds: make(map[string]*kind)}
}

const maxKinds = 256

// pass reports whether an event may be logged, and how many of its kind were
// not since the last one that was.
func (l *limiter) pass(name string, now time.Time) (bool, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kinds[name]
	if k != nil && now.Before(k.until) {
		k.missed++
		return false, 0
	}
	missed := 0
	if k == nil {
		if len(l.kinds) >= maxKinds {
			for name, k := range l.kinds {
				if !now.Before(k.until) {
					delete(l.kinds, name)
				}
			}
			if len(l.kinds) >= maxKinds {
				return false, 0
			}
		}
		k = &kind{}
		l.kinds[name] = k
	} else {
		missed = k.missed
	}
	k.until, k.missed = now.Add(l.window), 0
	return true, missed
}
