package discovery

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func peersFile(t *testing.T) string { return filepath.Join(t.TempDir(), "state", "peers.json") }

func TestRememberedSurvivesARestart(t *testing.T) {
	path := peersFile(t)
	r := LoadRemembered(path, nil)
	want := []Peer{
		{Addr: "10.0.0.1:11437", Source: SourceRemembered, ID: "a", Cluster: "home"},
		{Addr: "[fd00::2]:11437", Source: SourceRemembered, ID: "b"},
		{Addr: "[fe80::2%eth0]:11437", Source: SourceRemembered},
	}
	bad := []Peer{{Addr: "gpu:11437"}, {Addr: "10.0.0.1"}, {Addr: "0.0.0.0:1"}, {Addr: "10.0.0.1:0"}, {Addr: "224.0.0.251:5353"}, {Addr: "10.0.0.5:1", ID: "a b"}}
	if err := r.Save(append(bad, want...)...); err != nil {
		t.Fatal(err)
	}
	if got := LoadRemembered(path, nil).Peers(); !reflect.DeepEqual(got, want) {
		t.Errorf("after restart %v, want %v", got, want)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("state directory holds %v, %v; want the file alone", entries, err)
	}
}

func TestDamagedFileIsAWarningAndIsReplaced(t *testing.T) {
	for name, content := range map[string]string{
		"empty":         "",
		"cut":           `{"version":1,"peers":[{"addr":"10.0.0.1:1"`,
		"not json":      "\x00\x01\x02",
		"other version": `{"version":2,"peers":[]}`,
		"huge":          strings.Repeat(" ", maxRememberedFile+1),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "peers.json")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			r := LoadRemembered(path, slog.New(slog.NewTextHandler(&log, nil)))
			if len(r.Peers()) != 0 || strings.Count(log.String(), "level=WARN") != 1 {
				t.Errorf("peers %v, log %q; want none and one warning", r.Peers(), log.String())
			}
			if err := r.Save(Peer{Addr: "10.0.0.1:1"}); err != nil {
				t.Fatal(err)
			}
			if got := LoadRemembered(path, nil).Peers(); len(got) != 1 {
				t.Errorf("after Save %v", got)
			}
		})
	}
	t.Run("missing is no warning", func(t *testing.T) {
		var log bytes.Buffer
		LoadRemembered(peersFile(t), slog.New(slog.NewTextHandler(&log, nil)))
		if log.Len() != 0 {
			t.Errorf("log %q", log.String())
		}
	})
	t.Run("a directory in its place", func(t *testing.T) {
		dir := t.TempDir()
		r := LoadRemembered(dir, nil)
		if err := r.Save(Peer{Addr: "10.0.0.1:1"}); err == nil {
			t.Error("Save over a directory succeeded")
		}
		if entries, _ := filepath.Glob(dir + ".*.tmp"); len(entries) != 0 {
			t.Errorf("left behind: %v", entries)
		}
	})
}

func TestRemember(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration, addr, id string) memory {
		return memory{Addr: addr, ID: id, Seen: now.Add(-d)}
	}
	for _, tt := range []struct {
		name    string
		old     []memory
		peers   []Peer
		want    string
		changed bool
	}{
		{"new peer", nil, []Peer{{Addr: "10.0.0.1:1", ID: "a"}}, "10.0.0.1:1=a", true},
		{"nothing new", []memory{ago(time.Minute, "10.0.0.1:1", "a")}, []Peer{{Addr: "10.0.0.1:1", ID: "a"}}, "10.0.0.1:1=a", false},
		{"time grown old", []memory{ago(time.Hour, "10.0.0.1:1", "a")}, []Peer{{Addr: "10.0.0.1:1", ID: "a"}}, "10.0.0.1:1=a", true},
		{"time of a wrong clock", []memory{ago(-time.Hour, "10.0.0.1:1", "a")}, []Peer{{Addr: "10.0.0.1:1", ID: "a"}}, "10.0.0.1:1=a", true},
		{"absent peer stays", []memory{ago(time.Hour, "10.0.0.1:1", "a")}, []Peer{{Addr: "10.0.0.2:1", ID: "b"}}, "10.0.0.2:1=b 10.0.0.1:1=a", true},
		{"all absent", []memory{ago(time.Hour, "10.0.0.1:1", "a")}, nil, "10.0.0.1:1=a", false},
		{"absent too long", []memory{ago(rememberFor, "10.0.0.1:1", "a")}, nil, "", true},
		{"new address of a node", []memory{ago(time.Hour, "10.0.0.1:1", "a")}, []Peer{{Addr: "10.0.0.9:1", ID: "a"}}, "10.0.0.9:1=a", true},
		{"another node at an address", []memory{ago(0, "10.0.0.1:1", "a")}, []Peer{{Addr: "10.0.0.1:1", ID: "b"}}, "10.0.0.1:1=b", true},
		{"nameless ones do not oust each other", []memory{ago(time.Hour, "10.0.0.1:1", "")}, []Peer{{Addr: "10.0.0.2:1"}}, "10.0.0.2:1= 10.0.0.1:1=", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next, changed := remember(tt.old, tt.peers, now)
			var got []string
			for _, m := range next {
				got = append(got, m.Addr+"="+m.ID)
			}
			if s := strings.Join(got, " "); s != tt.want || changed != tt.changed {
				t.Errorf("= %q, %v; want %q, %v", s, changed, tt.want, tt.changed)
			}
		})
	}
	t.Run("bounded, the longest unseen go", func(t *testing.T) {
		var old []memory
		for i := range maxRemembered {
			old = append(old, ago(time.Duration(i+1)*time.Minute, fmt.Sprintf("10.0.%d.%d:1", i/250, i%250), ""))
		}
		next, _ := remember(old, []Peer{{Addr: "10.9.9.9:1"}}, now)
		if len(next) != maxRemembered || next[0].Addr != "10.9.9.9:1" || next[1] != old[0] || next[maxRemembered-1] != old[maxRemembered-2] {
			t.Errorf("%d kept, first %v, last %v", len(next), next[0], next[len(next)-1])
		}
	})
}

func TestUnchangedPeersAreNotWritten(t *testing.T) {
	path := peersFile(t)
	r := LoadRemembered(path, nil)
	if err := r.Save(Peer{Addr: "10.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := r.Save(Peer{Addr: "10.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("written again: %v", err)
	}
}

func TestRememberedOffersAgain(t *testing.T) {
	path := peersFile(t)
	if err := LoadRemembered(path, nil).Save(Peer{Addr: "10.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		o := runSource(t, LoadRemembered(path, nil).Run)
		after(11 * time.Minute)
		equal(t, "offers", o.addrs(), []string{"0s remembered 10.0.0.1:1", "5m0s remembered 10.0.0.1:1", "10m0s remembered 10.0.0.1:1"})
	})
}

func FuzzRemembered(f *testing.F) {
	f.Add([]byte(`{"version":1,"peers":[{"addr":"10.0.0.1:11437","id":"a","cluster":"home","seen":"2026-11-24T12:00:00Z"}]}`))
	f.Add([]byte(`{"version":1,"peers":[{"addr":"[fe80::1%eth0]:1","seen":"0001-01-01T00:00:00Z"},null,{}]}`))
	f.Add([]byte(`{"version":1`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		peers, err := parseRemembered(data)
		if err != nil {
			return
		}
		if len(peers) > maxRemembered {
			t.Fatalf("%d peers", len(peers))
		}
		var list []Peer
		for _, m := range peers {
			if !m.valid() {
				t.Fatalf("kept %+v", m)
			}
			list = append(list, Peer{Addr: m.Addr, ID: m.ID, Cluster: m.Cluster})
		}
		// What was read can be saved and read again.
		path := filepath.Join(t.TempDir(), "p.json")
		if err := (&Remembered{path: path, now: time.Now}).Save(list...); err != nil {
			t.Fatal(err)
		}
		if got := len(LoadRemembered(path, nil).Peers()); got != len(peers) {
			t.Fatalf("%d of %d peers came back", got, len(peers))
		}
	})
}
