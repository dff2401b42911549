//go:build linux

package faults

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/machine"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
)

// limit is how long a case may take once its mesh stands.
const limit = 30 * time.Second

var resultsFile = flag.String("results", "", "write the table of a run of all cases to this `FILE`")

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	built, remove, err := machine.Build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer remove()
	binary = built
	start := time.Now()
	code := m.Run()
	if *resultsFile != "" {
		if err := writeResults(*resultsFile, time.Since(start)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// story is what the table tells of a case.
type story struct {
	number         int
	fault, expects string
	seen           []string
	took           time.Duration
	verdict        string
}

// scene is one case being played.
type scene struct {
	*testing.T
	story
	rand  *rand.Rand
	lab   *lab.Lab
	hosts []*host         // in order; hosts[0] is nil, as the lab counts from 1
	ctx   context.Context // ends when the case has taken too long
	start time.Time
}

// begin opens case number: what goes wrong, and what must be seen then.
func begin(t *testing.T, number int, fault, expects string) *scene {
	t.Helper()
	need.NotShort(t, "hosts in namespaces")
	s := &scene{
		T: t, rand: rand.New(rand.NewPCG(uint64(number), 0)), start: time.Now(),
		story: story{number: number, fault: fault, expects: expects},
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.ctx = ctx
	t.Cleanup(func() {
		cancel()
		s.took = time.Since(s.start)
		switch {
		case t.Failed():
			s.verdict = "**FAILED**"
		case t.Skipped():
			s.verdict = "not run"
		default:
			s.verdict = "ok"
		}
		results = append(results, s.story)
	})
	return s
}

// up builds the hosts, without anything on them.
func (s *scene) up(hosts int, opts ...lab.Option) {
	s.Helper()
	s.lab = lab.Up(s, hosts, opts...)
	s.hosts = []*host{nil}
	for _, n := range s.lab.Nodes() {
		s.hosts = append(s.hosts, newHost(s, n))
	}
}

// go! starts the case's clock: its mesh stands.
func (s *scene) clock() {
	s.start = time.Now()
	ctx, cancel := context.WithTimeoutCause(s.ctx, limit, fmt.Errorf("case %d takes longer than %s", s.number, limit))
	s.ctx = ctx
	s.Cleanup(cancel)
}

// saw adds to what the table tells was seen.
func (s *scene) saw(format string, args ...any) {
	s.Helper()
	text := fmt.Sprintf(format, args...)
	s.seen = append(s.seen, text)
	s.Log(text)
}

// eventually polls until ok and returns how long that took; the case ends when
// it is not so within the time given.
func (s *scene) eventually(within time.Duration, what string, ok func() bool) time.Duration {
	s.Helper()
	start := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		switch {
		case time.Since(start) > within:
			s.Fatalf("after %v: not %s", within, what)
		case s.ctx.Err() != nil:
			s.Fatalf("waiting for %s: %v", what, context.Cause(s.ctx))
		}
		<-tick.C
	}
	return time.Since(start)
}

// throughout polls for a while and ends the case as soon as ok does not hold.
func (s *scene) throughout(span time.Duration, what string, ok func() bool) {
	s.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < span; <-tick.C {
		if !ok() {
			s.Fatalf("%.1f s in: not %s", time.Since(start).Seconds(), what)
		}
	}
}
