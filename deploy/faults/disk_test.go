//go:build linux

package faults

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

func itoa(n int) string { return strconv.Itoa(n) }

// fillDisk leaves no byte of a small disk.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			return
		}
	}
}

func TestCase42DiskFull(t *testing.T) {
	s := begin(t, 42, "the disk of a node's state (1 MB) is full while members come and go, and when it starts again",
		"it runs on and serves, warns, tears no file, and starts again")
	s.up(3)
	victim := s.hosts[2]
	if err := syscall.Mount("tmpfs", victim.State, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(victim.State, syscall.MNT_DETACH) })
	for _, h := range s.hosts[2:] {
		h.ollama(configOf("m", 500, 4))
	}
	for _, h := range s.hosts[1:3] {
		h.join()
	}
	s.eventually(30*time.Second, "two members", func() bool { return s.hosts[1].alive() == 2 && s.hosts[1].knows("m", 1) && victim.alive() == 2 })
	s.clock()
	fillDisk(t, victim.State)
	s.hosts[3].join() // a new member to remember
	s.eventually(10*time.Second, "three members", func() bool { return victim.alive() == 3 && s.hosts[1].knows("m", 2) })
	s.eventually(10*time.Second, "a warning", func() bool {
		return strings.Contains(victim.stderr(), "no space left on device")
	})
	for range 10 {
		if r := s.ask(question{to: victim, model: "m", tokens: 8}); r.perfect(8) != nil {
			t.Fatalf("%v", r)
		}
	}
	for _, sharp := range []bool{true, false} {
		if sharp {
			victim.Proc.Kill()
		} else if err := victim.Proc.Stop(); err != nil {
			t.Errorf("stopped with %v", err)
		}
		torn(t, victim.State)
		victim.Again()
		s.eventually(10*time.Second, "back", func() bool { return victim.alive() == 3 && s.hosts[1].knows("m", 2) })
	}
	s.saw("served 10 of 10 on a full disk, warned, no torn file, started again twice")
}

// torn fails the test for a JSON file that is not whole.
func torn(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil || !json.Valid(data) {
			t.Errorf("%s is torn: %v", filepath.Base(f), err)
		}
	}
}

func TestCase43CorruptState(t *testing.T) {
	s := begin(t, 43, "every file of a node's state but its key is torn and dated tomorrow; then the key is torn too",
		"ignored, peers found again, same id, serves; a torn key ends the start with the reason and the fix")
	ingress, owners := s.mesh(2, 500, "m")
	victim := owners[0]
	id := ingress.members()[victim.Name].ID
	s.eventually(10*time.Second, "peers remembered", func() bool {
		_, err := os.Stat(filepath.Join(victim.State, "peers.json"))
		return err == nil
	})
	victim.Proc.Kill()
	entries, err := os.ReadDir(victim.State)
	if err != nil {
		t.Fatal(err)
	}
	spoiled := 0
	for _, e := range entries {
		path := filepath.Join(victim.State, e.Name())
		if e.IsDir() || e.Name() == identity.KeyFile {
			continue
		}
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, append(data[:len(data)/2], 0xff, 0), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = os.Chmod(path, 0o666)
		tomorrow := time.Now().Add(24 * time.Hour)
		_ = os.Chtimes(path, tomorrow, tomorrow)
		spoiled++
	}
	victim.Again()
	took := s.eventually(10*time.Second, "back", func() bool { return victim.alive() == 3 && ingress.alive() == 3 && ingress.knows("m", 2) })
	if now := ingress.members()[victim.Name].ID; now != id {
		t.Errorf("id %s, before %s", now, id)
	}
	victim.Proc.Kill()
	key := filepath.Join(victim.State, identity.KeyFile)
	data, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	victim.Again()
	code := victim.code()
	if code == 0 || !strings.Contains(victim.stderr(), identity.KeyFile) {
		t.Errorf("a torn key: exit %d:\n%s", code, victim.stderr())
	}
	if now, _ := os.ReadFile(key); string(now) != string(data[:len(data)/2]) {
		t.Error("the key file was changed")
	}
	told := strings.ReplaceAll(lastLine(victim.stderr(), "error: "), victim.State, "STATE")
	s.saw("%d torn files: back after %.1f s with its id; torn key: exit %d, %q", spoiled, took.Seconds(), code, told)
}

// jumpingClock is a kage-mesh whose wall clock jumps: KAGE_TEST_CLOCK lists
// seconds since its start and by how many seconds the clock is off from then.
// Timers run on, as they do when somebody sets the clock.
func (s *scene) jumpingClock() string {
	s.Helper()
	src := filepath.Join(goroot(s), "src", "time")
	return s.variant("jumping", map[string][2]string{
		filepath.Join(src, "time.go"): {
			"func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n",
			"func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec += clockOff((mono - startNano) / 1e9)\n",
		},
		filepath.Join(src, "zoneinfo.go"): {
			"func (l *Location) get() *Location {\n",
			`var jumps struct {
	once sync.Once
	n    []int64
}

func clockOff(second int64) (off int64) {
	jumps.once.Do(func() {
		text, _ := syscall.Getenv("KAGE_TEST_CLOCK")
		number, sign, digits := int64(0), int64(1), false
		for _, c := range text + " " {
			switch {
			case c == '-':
				sign = -1
			case '0' <= c && c <= '9':
				number, digits = number*10+int64(c-'0'), true
			case digits:
				jumps.n = append(jumps.n, sign*number)
				number, sign, digits = 0, 1, false
			}
		}
	})
	for i := 0; i+1 < len(jumps.n); i += 2 {
		if second >= jumps.n[i] {
			off = jumps.n[i+1]
		}
	}
	return off
}

func (l *Location) get() *Location {
`,
		},
	})
}

func TestCase44ClockJumps(t *testing.T) {
	s := begin(t, 44, "an owner's clock jumps an hour ahead and two hours back while it serves; it then crashes and starts an hour in the past; all nodes sleep for 5 s and wake",
		"nothing expires, no member dies of it, answers whole; the one from the past is in work in under 10 s; after the sleep all alive in under 5 s")
	binary := s.jumpingClock()
	s.up(3)
	ingress, victim, other := s.hosts[1], s.hosts[2], s.hosts[3]
	for _, h := range s.hosts[2:] {
		h.ollama(configOf("m", 500, 4))
	}
	victim.Binary, victim.Env = binary, []string{"KAGE_TEST_CLOCK=6 3600 11 -3600"}
	started := time.Now()
	for _, h := range s.hosts[1:] {
		h.join()
	}
	s.stands("m")
	// Asked one after the other, idle owners that differ in nothing but what
	// their Ollamas have in memory owe nobody a turn: who is to serve is named.
	at := func(h *host, tokens int) reply {
		return s.ask(question{to: ingress, model: "m", tokens: tokens, header: map[string]string{"X-Kage-Node": h.Name}})
	}
	if r := at(other, 8); r.perfect(8) != nil {
		t.Fatalf("%v", r)
	}
	served := 0
	for time.Since(started) < 15*time.Second {
		for _, r := range []reply{at(victim, 8), s.ask(question{to: ingress, model: "m", tokens: 8})} {
			if r.perfect(8) != nil {
				t.Fatalf("%.1f s in: %v", time.Since(started).Seconds(), r)
			}
			if r.node == victim.Name && time.Since(started) > 12*time.Second {
				served++
			}
		}
	}
	deaths := ingress.flaps(victim) + victim.flaps(ingress)
	if deaths > 0 || served == 0 || !ingress.knows("m", 2) {
		t.Errorf("%d deaths, %d answers from it after its jumps", deaths, served)
	}
	wrote := ingress.members()[victim.Name].Written
	victim.Proc.Kill()
	victim.Env = []string{"KAGE_TEST_CLOCK=0 -3600"}
	victim.Again()
	took := s.eventually(10*time.Second, "in work again, its reports believed", func() bool {
		if r := at(victim, 4); r.perfect(4) != nil || r.node != victim.Name {
			return false
		}
		own, seen := victim.members()[victim.Name].Written, ingress.members()[victim.Name].Written
		return seen > 0 && seen < wrote && seen <= own
	})
	if n := s.sharing(ingress, 8); n != 2 {
		t.Errorf("8 requests at once are shared by %d owners of 4 slots", n)
	}
	for _, h := range s.hosts[1:] {
		h.Proc.Freeze()
	}
	nap := time.NewTimer(5 * time.Second)
	<-nap.C
	for _, h := range s.hosts[1:] {
		h.Proc.Thaw()
	}
	woke := s.eventually(5*time.Second, "all alive", func() bool {
		return ingress.alive() == 3 && victim.alive() == 3 && other.alive() == 3 && s.ask(question{to: ingress, model: "m", tokens: 4}).perfect(4) == nil
	})
	s.saw("no death by the jumps, %d answers from it after them; from the past: in work after %.1f s; after the sleep all alive by %.1f s", served, took.Seconds(), woke.Seconds())
}

// sharing is how many owners serve n requests at once, each of half a second,
// when all have the model in memory: a load may cost more than the wait.
func (s *scene) sharing(ingress *host, n int) int {
	s.Helper()
	for _, h := range s.hosts[1:] {
		if h.fake == nil {
			continue
		}
		r := s.ask(question{to: ingress, model: "m", tokens: 4, header: map[string]string{"X-Kage-Node": h.Name}})
		if r.perfect(4) != nil || r.node != h.Name {
			s.Errorf("asked of %s: %v", h, r)
		}
	}
	const tokens = 250
	c := s.gather(n, func(int) question { return question{to: ingress, model: "m", tokens: tokens} })
	c.perfect(tokens)
	owners := map[string]bool{}
	for _, r := range c.replies {
		owners[r.node] = true
	}
	return len(owners)
}
