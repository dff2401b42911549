package router

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

var generate = wire.Route{Kind: wire.Generate, Class: wire.Inference}

// A request that moved twice, once before and once after its first byte.
func TestRecordOfARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var got Record
		j := newJournal(slog.New(slog.NewTextHandler(&log, nil)), func(r Record) { got = r })
		w := httptest.NewRecorder()
		trip := j.begin(w, generate)
		trip.named("id-1")
		trip.read(Request{ID: "id-1", Key: "m:latest", PromptTokens: 9}, true, true)
		node := func(name string) Candidate { return Candidate{Member: &mesh.Member{Name: name}} }
		wait := func(d time.Duration) { time.Sleep(d) }

		trip.tries(node("a"))
		wait(time.Second)
		trip.tried(&AttemptError{Phase: PhaseDial, Err: fmt.Errorf("refused")})
		trip.tries(node("b"))
		wait(time.Second)
		_, _ = trip.Write([]byte("x"))
		if r, _, _ := j.trips(0); len(r) != 1 || r[0].record().Owner != "b" || r[0].record().Took != 2 {
			t.Errorf("while it runs: %+v", r)
		}
		wait(time.Second)
		trip.pieces.Store(5)
		if r := trip.record(); r.OutputTokens != 5 || r.Rate != 5 || r.Outcome != "" {
			t.Errorf("while it writes: %+v", r)
		}
		trip.used(wire.Usage{}, 3)
		trip.tried(&AttemptError{Phase: PhaseStream, Err: ErrCut})
		trip.tries(node("c"))
		wait(4 * time.Second)
		trip.used(wire.Usage{PromptTokens: 12, OutputTokens: 7}, 99)
		trip.tried(nil)
		trip.end(true)

		if got.Owner != "c" || got.Status != http.StatusOK || got.Outcome != OutcomeOK || got.Continued != 1 ||
			got.First != 2 || got.Took != 7 || got.PromptTokens != 12 || got.OutputTokens != 10 || got.Rate != 2 {
			t.Errorf("%+v", got)
		}
		var results []string
		for _, a := range got.Attempts {
			results = append(results, fmt.Sprintf("%s %s %s %v", a.Node, a.Phase, a.Result, a.Took))
		}
		if s := strings.Join(results, ", "); s != "a dial unreachable 1, b stream cut 2, c stream ok 4" {
			t.Errorf("attempts: %s", s)
		}
		line := log.String()
		for _, want := range []string{
			"request=id-1", "model=m:latest", "owner=c", "attempts=3", "continued=1", "status=200", "outcome=ok",
			"ttft_ms=2000", "took_ms=7000", "tokens=10", "tokens_per_s=2",
		} {
			if !strings.Contains(line, want) {
				t.Errorf("the log line lacks %s: %s", want, line)
			}
		}
		if strings.Count(line, "\n") != 1 {
			t.Errorf("not one line: %s", line)
		}
	})
}

func TestOutcomes(t *testing.T) {
	tests := []struct {
		name string
		play func(*trip) (whole bool)
		want Outcome
	}{
		{"whole", func(t *trip) bool { _, _ = t.Write([]byte("x")); return true }, OutcomeOK},
		{"broken off", func(t *trip) bool { _, _ = t.Write([]byte("x")); return false }, OutcomeCut},
		{"nothing written", func(*trip) bool { return true }, OutcomeClientGone},
		{"404", func(t *trip) bool { t.WriteHeader(404); return true }, OutcomeNotFound},
		{"405", func(t *trip) bool { t.WriteHeader(405); return true }, OutcomeNotFound},
		{"400", func(t *trip) bool { t.WriteHeader(400); return true }, OutcomeRejected},
		{"503", func(t *trip) bool { t.WriteHeader(503); return true }, OutcomeBusy},
		{"500", func(t *trip) bool { t.WriteHeader(500); return true }, OutcomeError},
		{"a sign of life is no answer", func(t *trip) bool { t.WriteHeader(102); t.WriteHeader(200); return true }, OutcomeOK},
		{"client left a stream", func(t *trip) bool {
			t.tries(Candidate{Member: &mesh.Member{Name: "a"}})
			_, _ = t.Write([]byte("x"))
			t.tried(&AttemptError{Phase: PhaseStream, Err: ErrClientGone})
			return true
		}, OutcomeClientGone},
		{"a write failed", func(t *trip) bool {
			t.ResponseWriter = deaf{t.ResponseWriter}
			_, _ = t.Write([]byte("x"))
			return true
		}, OutcomeClientGone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got Record
			j := newJournal(slog.New(slog.DiscardHandler), func(r Record) { got = r })
			trip := j.begin(httptest.NewRecorder(), generate)
			trip.end(tt.play(trip))
			if got.Outcome != tt.want {
				t.Errorf("%q, want %q: %+v", got.Outcome, tt.want, got)
			}
		})
	}
}

// deaf is a client that has left.
type deaf struct{ http.ResponseWriter }

func (deaf) Write([]byte) (int, error) { return 0, http.ErrHandlerTimeout }

// The journal forgets the oldest, and may be read while requests come and go.
func TestJournalIsBounded(t *testing.T) {
	j := newJournal(slog.New(slog.DiscardHandler), nil)
	r := &Router{journal: j}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range kept {
				trip := j.begin(httptest.NewRecorder(), generate)
				trip.named(fmt.Sprint(i))
				trip.tries(Candidate{Member: &mesh.Member{Name: "a"}})
				_, _, _ = r.Requests(0)
				trip.end(true)
			}
		})
	}
	wait.Wait()
	for i := range 10 {
		trip := j.begin(httptest.NewRecorder(), generate)
		trip.named(fmt.Sprint("last-", i))
		trip.end(true)
	}
	listing := j.begin(httptest.NewRecorder(), wire.Route{Kind: wire.Tags})
	listing.end(true)
	running, ended, ends := r.Requests(0)
	if ends != 4*kept+10 {
		t.Errorf("%d have ended", ends)
	}
	for since, want := range map[uint64]int{ends: 0, ends - 3: 3, ends - kept - 5: kept, ends + 1: 0} {
		if _, fresh, _ := r.Requests(since); len(fresh) != want || want > 0 && fresh[0].ID != "last-9" {
			t.Errorf("%d after %d, want %d", len(fresh), since, want)
		}
	}
	if len(running) != 0 || len(ended) != kept || ended[0].ID != "last-9" || ended[9].ID != "last-0" {
		t.Errorf("%d run, %d ended, the first %s", len(running), len(ended), ended[0].ID)
	}
	if _, _, ok := r.Recorded("last-9"); ok {
		t.Error("a request that was never placed is explained")
	}
}
