package backend

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// answer is a sample of a model that decodes at 50 tok/s alone, loses 0.2 of a
// token's time to each companion, and reads 1000 tok/s.
func answer(together float64) Sample {
	decode := 50 / (1 + 0.2*(together-1))
	return Sample{
		PromptTokens: 500, PromptTime: time.Second / 2, OutputTokens: 100,
		OutputTime: time.Duration(100 / decode * float64(time.Second)), Together: together,
	}
}

func near(got, want, share float64) bool { return math.Abs(got-want) <= share*want }

func TestRatesConverge(t *testing.T) {
	r := NewRates()
	if s := r.Speed("m"); s != (Speed{}) {
		t.Errorf("of an unknown model: %+v", s)
	}
	for range 5 {
		r.Observe("m", answer(1), t0)
	}
	s := r.Speed("m")
	if !near(s.Decode, 50, 0.001) || !near(s.Prefill, 1000, 0.001) || s.Samples != 5 || s.Output != 100 || s.Slope != GuessSlope || s.Cold != 0 {
		t.Errorf("after 5 lone answers: %+v", s)
	}
	for range 40 {
		r.Observe("m", answer(3), t0)
		r.Observe("m", answer(2), t0)
	}
	s = r.Speed("m")
	if !near(s.Slope, 0.2, 0.02) || !near(s.Decode, 50, 0.02) {
		t.Errorf("after answers in company: %+v", s)
	}
}

func TestRatesFollowAChange(t *testing.T) {
	r := NewRates()
	for range 30 {
		r.Observe("m", answer(1), t0)
	}
	slow := answer(1)
	slow.OutputTime *= 5 // 10 tok/s: the model no longer fits the GPU
	for range 15 {
		r.Observe("m", slow, t0)
	}
	if s := r.Speed("m"); !near(s.Decode, 10, 0.2) {
		t.Errorf("15 answers after the change: %+v", s)
	}
}

func TestRatesInCompanyFromTheStart(t *testing.T) {
	r := NewRates()
	for range 10 {
		r.Observe("m", answer(2), t0) // 41.7 tok/s each; the guess says 1.3, the truth 1.2
	}
	if s := r.Speed("m"); !near(s.Decode, 50, 0.1) {
		t.Errorf("without a lone answer: %+v", s)
	}
	r.Observe("m", answer(1), t0)
	if s := r.Speed("m"); !near(s.Decode, 50, 0.001) || s.Samples != 11 {
		t.Errorf("the first lone answer: %+v", s)
	}
}

func TestAnotherModelOnTheDeviceIsAccountedFor(t *testing.T) {
	r := NewRates()
	s := answer(1)
	s.OutputTime, s.PromptTime, s.Others = 2*s.OutputTime, 2*s.PromptTime, 1
	r.Observe("m", s, t0)
	if got := r.Speed("m"); !near(got.Decode, 50, 0.001) || !near(got.Prefill, 1000, 0.001) {
		t.Errorf("%+v", got)
	}
}

func TestAbsurdFiguresAreIgnored(t *testing.T) {
	for name, change := range map[string]func(*Sample){
		"no duration":       func(s *Sample) { s.OutputTime, s.PromptTime = 0, 0 },
		"negative duration": func(s *Sample) { s.OutputTime, s.PromptTime = -time.Second, -time.Second },
		"a clock that ran":  func(s *Sample) { s.OutputTime, s.PromptTime = 1, 1 },
		"a clock that hung": func(s *Sample) { s.OutputTime, s.PromptTime = 1<<62, 1<<62 },
		"negative counts":   func(s *Sample) { s.OutputTokens, s.PromptTokens = -5, -5 },
		"too few tokens":    func(s *Sample) { s.OutputTokens, s.PromptTokens, s.OutputTime = 2, 3, 1 },
		"together nonsense": func(s *Sample) { s.Together, s.Others = math.NaN(), math.NaN() },
		"together infinite": func(s *Sample) {
			s.Together, s.Others, s.OutputTokens, s.PromptTokens = math.Inf(1), math.Inf(-1), 0, 0
		},
		"load of years": func(s *Sample) { s.Cold, s.LoadTime = true, 1<<62 },
	} {
		t.Run(name, func(t *testing.T) {
			r := NewRates()
			for range 5 {
				r.Observe("m", answer(1), t0)
			}
			before := r.Speed("m")
			s := answer(1)
			change(&s)
			r.Observe("m", s, t0)
			after := r.Speed("m")
			if !near(after.Decode, before.Decode, 0.001) || !near(after.Prefill, before.Prefill, 0.001) || after.Cold != 0 {
				t.Errorf("%+v became %+v", before, after)
			}
		})
	}
	r := NewRates()
	r.Observe("", answer(1), t0)
	if len(r.models) != 0 {
		t.Error("a model without digest was remembered")
	}
}

func TestPromptsFromTheCacheAreNoPrefill(t *testing.T) {
	r := NewRates()
	for range 3 {
		r.Observe("m", answer(1), t0)
	}
	cached := answer(1)
	cached.PromptTokens, cached.PromptTime = 20_000, time.Second // 20,000 tok/s
	for range 50 {
		r.Observe("m", cached, t0)
	}
	if s := r.Speed("m"); !near(s.Prefill, 1000, 0.001) {
		t.Errorf("prefill %v", s.Prefill)
	}
}

func TestColdLoads(t *testing.T) {
	r := NewRates()
	s := answer(1)
	s.LoadTime = 40 * time.Second
	r.Observe("m", s, t0)
	if c := r.Speed("m").Cold; c != 0 {
		t.Errorf("a load that waited for somebody else's counts %v", c)
	}
	s.Cold = true
	r.Observe("m", s, t0)
	s.LoadTime = 20 * time.Second
	r.Observe("m", s, t0)
	if c := r.Speed("m").Cold; c != 30 {
		t.Errorf("loads of 40 s and 20 s are remembered as %v", c)
	}
}

func TestRatesSurviveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rates.json")
	r := NewRates()
	if err := r.Load(file); err != nil {
		t.Fatalf("without a file: %v", err)
	}
	if err := r.Save(file); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("nothing learnt was written")
	}
	for range 4 {
		r.Observe("m", answer(1), time.Now())
	}
	r.Seen("m", true)
	if err := r.Save(file); err != nil {
		t.Fatal(err)
	}
	again := NewRates()
	if err := again.Load(file); err != nil {
		t.Fatal(err)
	}
	if a, b := r.Speed("m"), again.Speed("m"); a != b || !b.Partial || b.Samples != 4 {
		t.Errorf("%+v came back as %+v", a, b)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := os.WriteFile(file, []byte(`{"version":1,"models":{"m":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := again.Load(file); err == nil {
		t.Error("a cut file was taken")
	}
	if s := again.Speed("m"); s.Samples != 4 {
		t.Errorf("a bad file destroyed what was known: %+v", s)
	}
	if err := again.Restore([]byte(`{"version":2}`)); err == nil {
		t.Error("a file of another version was taken")
	}
	r.Observe("m", answer(1), time.Now())
	if err := r.Save(filepath.Join(file, "below a file")); err == nil {
		t.Error("saved below a file")
	}
	if err := r.Save(file); err != nil { // what could not be saved is still to be
		t.Error(err)
	}
	if err := again.Load(file); err != nil || again.Speed("m").Samples != 5 {
		t.Errorf("%v, %+v", err, again.Speed("m"))
	}
}

func TestOnlyTheModelsUsedLastAreKept(t *testing.T) {
	r := NewRates()
	for i := range maxRates + 50 {
		r.Observe("m"+strconv.Itoa(i), answer(1), t0.Add(time.Duration(i)*time.Minute))
	}
	again := NewRates()
	if err := again.Restore(r.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if len(again.models) != maxRates || again.Speed("m49").Samples != 0 || again.Speed("m50").Samples != 1 {
		t.Errorf("%d kept", len(again.models))
	}
}

func FuzzRestore(f *testing.F) {
	r := NewRates()
	r.Observe("m", answer(2), t0)
	f.Add(r.Snapshot())
	f.Add([]byte(`{"version":1,"models":{"x":{"decode":1e308,"decodes":-1},"y":null,"z":{"slope":5,"slopes":1,"seen":"2026-01-01T00:00:00Z"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewRates()
		if r.Restore(data) != nil {
			return
		}
		for digest := range r.models {
			s := r.Speed(digest).orGuess(1 << 30)
			for _, v := range []float64{s.Decode, s.Prefill, s.Slope, s.Cold, s.Output} {
				if !(v >= 0) || math.IsInf(v, 0) {
					t.Fatalf("%s: %+v", digest, s)
				}
			}
			r.Observe(digest, answer(2), t0)
		}
		snapshot := r.Snapshot()
		if !json.Valid(snapshot) {
			t.Fatalf("snapshot %s", snapshot)
		}
		again := NewRates()
		if err := again.Restore(snapshot); err != nil || !bytes.Equal(again.Snapshot(), snapshot) {
			t.Fatalf("%v: %s came back as %s", err, snapshot, again.Snapshot())
		}
	})
}

func FuzzObserve(f *testing.F) {
	f.Add(100, int64(time.Second), 20, int64(time.Second), int64(0), true, 1.0, 0.0)
	f.Add(1, int64(1), 1, int64(1), int64(-1), false, math.Inf(1), -1.0)
	f.Fuzz(func(t *testing.T, prompt int, promptTime int64, output int, outputTime, load int64, cold bool, together, others float64) {
		r := NewRates()
		for range 3 {
			r.Observe("m", Sample{
				PromptTokens: prompt, PromptTime: time.Duration(promptTime), OutputTokens: output, OutputTime: time.Duration(outputTime),
				LoadTime: time.Duration(load), Cold: cold, Together: together, Others: others,
			}, t0)
		}
		r.Observe("m", answer(4), t0)
		if err := NewRates().Restore(r.Snapshot()); err != nil {
			t.Fatal(err)
		}
		again := NewRates()
		if _ = again.Restore(r.Snapshot()); len(again.models) != 1 {
			t.Fatalf("what was learnt is not valid: %+v", r.models["m"])
		}
	})
}
