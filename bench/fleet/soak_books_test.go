package fleet_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

// books hold, for one round, what the Ollamas ran and what the ingresses say
// that they asked for.
type books struct {
	mu      sync.Mutex
	worked  int                         // tokens, of all rounds
	runs    map[string]int              // by request
	records map[string][]router.Attempt // by request
	read    map[*router.Router]uint64   // how many of its records are in here
}

// collect takes the counts of an Ollama that runs nothing, or is no more.
func (b *books) collect(n *fleet.Node) {
	st := n.Ollama.Stats()
	n.Ollama.ResetStats()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.worked += st.Tokens
	if b.runs == nil {
		b.runs = map[string]int{}
	}
	for id, times := range st.Executions {
		b.runs[id] += times
	}
}

// learn takes the records that an ingress has closed since the last time.
func (b *books) learn(n *fleet.Node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read == nil {
		b.read, b.records = map[*router.Router]uint64{}, map[string][]router.Attempt{}
	}
	_, ended, ends := n.Router().Requests(b.read[n.Router()])
	b.read[n.Router()] = ends
	for _, r := range ended {
		b.records[r.ID] = r.Attempts
	}
}

// leakless waits until no goroutine is left but those of before.
func leakless(t *testing.T, before goleak.Option) {
	t.Helper()
	err := goleak.Find(before)
	for end := time.Now().Add(patience); err != nil && time.Now().Before(end); {
		err = goleak.Find(before) // looks for some seconds
	}
	if err != nil {
		t.Error(err)
	}
}

// judge holds the executions of the round's requests to what their ingresses
// asked for: never more than the attempts that reached a node, of which three
// at most may have cost work without an agreement; and each attempt that
// brought a part of the answer is one.
func (s *soak) judge() {
	b := &s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &s.sum
	for id, runs := range b.runs {
		c.runs += runs
		c.most = max(c.most, runs)
		if runs > 1 {
			c.again++
		}
		if _, ok := b.records[id]; !ok {
			s.bad(id, "was run %d times and no ingress knows it", runs)
		}
	}
	for id, attempts := range b.records {
		reached, spent, answered := 0, 0, 0
		for _, a := range attempts {
			if a.Phase == router.PhaseDial.String() {
				continue
			}
			reached++
			switch {
			case strings.HasPrefix(a.Result, "refused"), a.Result == "moved", a.Result == "drained", a.Result == "busy":
			default:
				spent++
			}
			if a.Phase == router.PhaseStream.String() {
				answered++
			}
		}
		if why, ok := c.refused[id]; ok && spent == 3 {
			c.clear, c.spent = c.clear+1, c.spent+1
		} else if ok {
			s.bad(id, "was lost before its first byte: %s: %+v", why, attempts)
		}
		delete(c.refused, id)
		if runs := b.runs[id]; runs > reached || runs < answered || spent > 3 {
			s.bad(id, "was run %d times for %d attempts, %d of which brought something and %d cost work: %+v", runs, reached, answered, spent, attempts)
		}
	}
	for id, why := range c.refused {
		s.bad(id, "was lost before its first byte, and no ingress knows it: %s", why)
	}
	clear(c.refused)
	clear(b.runs)
	clear(b.records)
	for r := range b.read { // those of dead nodes go
		if !s.lives(r) {
			delete(b.read, r)
		}
	}
}

func (s *soak) lives(r *router.Router) bool {
	for _, n := range s.f.Nodes() {
		if n.Router() == r {
			return true
		}
	}
	return false
}

// rest is what is held when nothing runs.
type rest struct{ goroutines, descriptors, heap int } // heap in KiB

func (r rest) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d KiB", r.goroutines, r.descriptors, r.heap)
}

// measure takes the least of a few looks: connections that were just given up
// are still on their way out.
func measure() rest {
	least := rest{1 << 30, 1 << 30, 1 << 30}
	for range 10 {
		<-time.After(100 * time.Millisecond)
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		open := 0
		if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
			open = len(entries)
		}
		least = rest{min(least.goroutines, runtime.NumGoroutine()), min(least.descriptors, open), min(least.heap, int(m.HeapAlloc>>10))}
	}
	return least
}

// tailLog keeps the last lines of a log, and all of it in the file SOAK_LOG.
type tailLog struct {
	mu    sync.Mutex
	lines [8192]string
	next  int
	file  *os.File
}

func (l *tailLog) open(t *testing.T) {
	t.Helper()
	name := os.Getenv("SOAK_LOG")
	if name == "" {
		return
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	l.file = f
}

func (l *tailLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}

func (l *tailLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines[l.next%len(l.lines)] = string(bytes.TrimSpace(p))
	l.next++
	if l.file != nil {
		return l.file.Write(p)
	}
	return len(p), nil
}

// note writes a line of the soak's own.
func (l *tailLog) note(msg string, pairs ...string) {
	_, _ = fmt.Fprintf(l, "time=%s msg=%s %q\n", time.Now().Format(time.RFC3339Nano), msg, pairs)
}

// with lists the kept lines that hold one of the words, oldest first.
func (l *tailLog) with(words ...string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out strings.Builder
	for i := range l.lines {
		line := l.lines[(l.next+i)%len(l.lines)]
		for _, w := range words {
			if strings.Contains(line, w) {
				out.WriteString(line + "\n")
				break
			}
		}
	}
	return out.String()
}
