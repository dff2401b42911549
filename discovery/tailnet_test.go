package discovery

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseTailnet(t *testing.T) {
	status, err := os.ReadFile("testdata/tailscale-status.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, data, tag, want string
		fails                 bool
	}{
		// Self, offline, expired, shared, phone and exit node are left out;
		// fd7a:... is a machine with IPv4 switched off.
		{"machines that may run a node", string(status), "", "100.101.1.2 100.101.1.3 fd7a:115c:a1e0::9", false},
		{"with a tag", string(status), "tag:kage", "100.101.1.3", false},
		{"stopped", `{"BackendState":"Stopped","Peer":{"x":{"Online":true,"TailscaleIPs":["100.64.0.1"]}}}`, "", "", false},
		{"no peers", `{"BackendState":"Running","Self":null,"Peer":null}`, "", "", false},
		{"null peer", `{"BackendState":"Running","Peer":{"x":null}}`, "", "", false},
		{"odd addresses", `{"BackendState":"Running","Peer":{"x":{"Online":true,"TailscaleIPs":["","nonsense","0.0.0.0","224.0.0.1","100.64.0.1"]}}}`, "", "100.64.0.1", false},
		{"not json", "Tailscale is stopped.", "", "", true},
		{"empty", "", "", "", true},
		{"wrong types", `{"BackendState":"Running","Peer":[1]}`, "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ips, err := parseTailnet([]byte(tt.data), tt.tag)
			var got []string
			for _, ip := range ips {
				got = append(got, ip.String())
			}
			if s := strings.Join(got, " "); s != tt.want || (err != nil) != tt.fails {
				t.Errorf("= %q, %v; want %q, error %v", s, err, tt.want, tt.fails)
			}
		})
	}
}

func TestTailnetPollsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var mu sync.Mutex
		status, err, calls := []byte(nil), ErrNoTailscale, 0
		now := func(s string, e error) {
			mu.Lock()
			defer mu.Unlock()
			status, err = []byte(s), e
		}
		src := NewTailnet(TailnetConfig{
			Port:   7,
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Status: func(context.Context) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				calls++
				return status, err
			},
		})
		o := runSource(t, src.Run)
		after(30 * time.Minute)
		if calls > 4 || log.Len() != 0 {
			t.Errorf("without tailscale: %d looks in half an hour, log %q", calls, log.String())
		}
		now(`{"BackendState":"Running","Peer":{"x":{"Online":true,"TailscaleIPs":["100.64.0.1"]}}}`, nil)
		after(13 * time.Minute) // installed meanwhile
		n := len(o.addrs())
		if n == 0 {
			t.Fatal("no offer")
		}
		after(10 * time.Minute)
		if more := len(o.addrs()) - n; more < 8 || more > 13 {
			t.Errorf("%d offers in ten minutes, want about ten", more)
		}
		if got := o.addrs()[0]; !strings.HasSuffix(got, "tailnet 100.64.0.1:7") {
			t.Errorf("offer %q", got)
		}
		now("", errors.New("exit status 1"))
		after(10 * time.Minute)
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings of ten same failures, want 1:\n%s", n, log.String())
		}
	})
}

func TestTailscaleCommand(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the fake command is a shell script")
	}
	run := func(t *testing.T, script string) ([]byte, error) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "tailscale"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		return tailscaleStatus(ctx)
	}
	t.Run("prints status", func(t *testing.T) {
		out, err := run(t, `[ "$*" = "status --json" ] && echo '{"BackendState":"Running"}'`)
		if err != nil || !strings.Contains(string(out), "Running") {
			t.Errorf("= %q, %v", out, err)
		}
	})
	t.Run("fails", func(t *testing.T) {
		_, err := run(t, "exit 1")
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Errorf("err = %v, want the exit status", err)
		}
	})
	t.Run("hangs", func(t *testing.T) {
		if _, err := run(t, "exec sleep 60"); err == nil {
			t.Error("no error")
		}
	})
}

func TestStatusOutputIsBounded(t *testing.T) {
	b := &boundedBuffer{limit: 10}
	if _, err := b.Write([]byte("12345678")); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Write([]byte("123")); n != 0 || err == nil {
		t.Errorf("= %d, %v; want refusal", n, err)
	}
}

func FuzzTailnet(f *testing.F) {
	status, err := os.ReadFile("testdata/tailscale-status.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(status, "")
	f.Add(status, "tag:kage")
	f.Add([]byte(`{"BackendState":"Running","Peer":{"x":{"Online":true,"TailscaleIPs":["fe80::1%eth0","::ffff:10.0.0.1"]}}}`), "")
	f.Fuzz(func(t *testing.T, data []byte, tag string) {
		ips, err := parseTailnet(data, tag)
		if err != nil && ips != nil || len(ips) > maxTailnet {
			t.Fatalf("%d addresses, %v", len(ips), err)
		}
		for _, ip := range ips {
			if !dialable(ip) || ip.Is4In6() || ip.Zone() != "" {
				t.Fatalf("offers %v", ip)
			}
			if _, err := netip.ParseAddrPort(netip.AddrPortFrom(ip, 1).String()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
