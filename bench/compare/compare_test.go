package compare

import (
	"context"
	"errors"
	"math"
	"net"
	"strings"
	"testing"
	"time"
)

// serve runs a backend in this process.
func serve(t testing.TB, b *Backend) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestLoadsCountWholeAnswersOnly(t *testing.T) {
	addr := serve(t, &Backend{Models: []Model{{Name: "m1"}, {Name: "fast", Rate: 1000}}, Slots: 64})
	closed := Closed(t.Context(), []string{addr}, post("m1", 8, false), 4, 100*time.Millisecond)
	if closed.Requests == 0 || closed.Failed() != 0 || closed.Latency.TotalCount() != int64(closed.Requests) {
		t.Errorf("closed: %d requests, %v", closed.Requests, closed.Errors)
	}
	missing := Closed(t.Context(), []string{addr}, post("none", 8, false), 1, 20*time.Millisecond)
	if missing.Requests != 0 || missing.Errors["http 404"] == 0 {
		t.Errorf("unknown model: %d requests, %v", missing.Requests, missing.Errors)
	}
	open := Open(t.Context(), []string{addr}, post("m1", 8, false), 500, 8, 200*time.Millisecond, 1)
	if open.Requests < 50 || open.Failed() != 0 {
		t.Errorf("open: %d requests, %v", open.Requests, open.Errors)
	}
	streams := Streams(t.Context(), []string{addr}, "fast", 3, 50, nil)
	if streams.Requests != 3 || streams.Tokens != 150 || streams.Failed() != 0 || streams.Transit.TotalCount() != 150 {
		t.Errorf("streams: %+v", streams)
	}
}

// A late answer delays those behind it in the open loop: their latency counts
// from when they were due.
func TestOpenLoopSeesWhatAStallHeldUp(t *testing.T) {
	addr := serve(t, &Backend{Models: []Model{{Name: "slow", First: 50 * time.Millisecond}}, Slots: 1})
	l := Open(t.Context(), []string{addr}, post("slow", 1, false), 100, 1, 200*time.Millisecond, 1)
	if worst := time.Duration(l.Latency.Max()); l.Requests < 5 || worst < 150*time.Millisecond {
		t.Errorf("%d requests, the worst took %s: the wait is not in it", l.Requests, worst)
	}
}

func TestBackendSeesItsClientLeave(t *testing.T) {
	b := &Backend{Models: []Model{{Name: "late", First: time.Minute}}, Slots: 1}
	addr := serve(t, b)
	c, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(post("late", 1, true)); err != nil {
		t.Fatal(err)
	}
	if err := until(t.Context(), 10*time.Second, "not begun", func() bool { return b.running.Load() == 1 }); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := until(t.Context(), 10*time.Second, "not seen", func() bool { return strings.Contains(b.stats(), `"cancelled":[1`) }); err != nil {
		t.Fatal(err)
	}
}

func TestAnswersThatAreNotWhole(t *testing.T) {
	token := func(i int) string { return string(appendToken(nil, i)) }
	end := string(appendDone(nil, 2))
	tests := []struct {
		name, body string
		conn       error
		want       error
	}{
		{"whole", token(0) + token(1) + end, nil, nil},
		{"one lost", token(0) + token(2) + end, nil, errDisorder},
		{"one doubled", token(0) + token(0) + token(1) + end, nil, errDisorder},
		{"too short", token(0) + end, nil, errDisorder},
		{"clean cut", token(0) + token(1), nil, errCleanCut},
		{"cut", token(0), errMidBody, errMidBody},
		{"error frame", token(0) + "{\"error\":\"gone\"}\n", nil, errSaidError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 7, len(tt.body)} {
				a := &answer{want: 2, sent: time.Now(), transit: newHistogram(), gaps: newHistogram()}
				for rest := tt.body; rest != ""; rest = rest[min(size, len(rest)):] {
					a.take([]byte(rest[:min(size, len(rest))]))
				}
				if err := a.end(tt.conn); !errors.Is(err, tt.want) {
					t.Errorf("in pieces of %d: %v, want %v", size, err, tt.want)
				}
			}
		})
	}
}

func TestFiguresAndRatios(t *testing.T) {
	r := &Results{}
	for rep, v := range []float64{10, 20, 40} {
		r.Samples = append(r.Samples,
			Sample{Small, "c", Nginx, rep, map[string]float64{"rps": v}, nil},
			Sample{Small, "c", OneHop, rep, map[string]float64{"rps": 2 * v}, map[string]int{"refused": 1}})
	}
	if f := r.Figure(Small, "c", Nginx, "rps"); f != (Figure{20, 15, 30, 3}) {
		t.Errorf("figure %+v", f)
	}
	if f := r.Ratio(Small, "c", OneHop, Nginx, "rps"); f != (Figure{2, 2, 2, 3}) {
		t.Errorf("ratio %+v: not taken inside a repeat", f)
	}
	if f := r.Added(Small, "c", OneHop, Nginx, "rps"); f.Median != 20 {
		t.Errorf("added %+v", f)
	}
	if f := r.Figure(Small, "c", HAProxy, "rps"); !math.IsNaN(f.Median) || f.N != 0 {
		t.Errorf("nothing measured gives %+v", f)
	}
	text := Markdown(r)
	for _, want := range []string{"| nginx | 20 (15-30) | 1.00 |", "| kage-mesh, one hop | 40 (30-60) | 2.00 |", "3 refused"} {
		if !strings.Contains(text, want) {
			t.Errorf("report lacks %q:\n%s", want, text)
		}
	}
	if svg := plots[0].draw(&Results{Samples: []Sample{
		{Small, "1 at once", Nginx, 0, map[string]float64{"rps": 5}, nil},
		{Small, "1 at once", OneHop, 0, map[string]float64{"rps": 10}, nil},
	}}); !strings.Contains(svg, ">2x<") {
		t.Errorf("plot: %s", svg)
	}
}

func TestModelsOnACommandLine(t *testing.T) {
	m := Model{Name: "a:b", Rate: 2.5, First: time.Second}
	if got, err := ParseModel(m.String()); err != nil || got != m {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "a", "a=1", "a=x/1s", "a=1/x"} {
		if _, err := ParseModel(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
