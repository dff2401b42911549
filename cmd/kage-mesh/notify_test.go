package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A node under a service manager says ready once it answers, feeds the
// watchdog, and says that it stops.
func TestNotify(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no sd_notify on Windows")
	}
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "300000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))

	var stdout, stderr syncBuffer
	e := environment{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" }}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- newApp(e).RunContext(ctx, []string{
			"kage-mesh", "join", "--state-dir", t.TempDir(), "--no-mdns", "--name", "watched", "--ollama", "127.0.0.1:1",
			"--api-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0",
		})
	}()
	if err := l.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var said []string
	next := func() string {
		buf := make([]byte, 4096)
		n, err := l.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q\n%s", err, said, stderr.String())
		}
		said = append(said, string(buf[:n]))
		return said[len(said)-1]
	}
	for !strings.Contains(next(), "READY=1") {
	}
	if first := said[0]; first != "STATUS=starting" {
		t.Errorf("first: %q", first)
	}
	if again := next(); !strings.Contains(again, "WATCHDOG=1") || strings.Contains(again, "READY") || !strings.Contains(again, "1 of 1 node up, 0 requests running") {
		t.Errorf("after ready: %q", again)
	}
	cancel()
	for !strings.Contains(next(), "STOPPING=1") {
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWithoutAServiceManagerNothingIsSaid(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notify(t.Context(), nil, nil); err != nil { // it would use the node
		t.Error(err)
	}
}
