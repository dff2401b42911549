package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

func testConfig(t *testing.T) Config {
	return Config{
		Name: "n", StateDir: t.TempDir(), API: "127.0.0.1:0", Peer: "127.0.0.1:0", Gossip: "127.0.0.1:0",
		Ollama: "127.0.0.1:1", Grace: time.Second,
		Detect: func(context.Context) hardware.Inventory { return hardware.Inventory{} },
	}
}

// start runs a node until the test ends.
func start(t *testing.T, c Config) *Node {
	t.Helper()
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(context.Background()) }()
	t.Cleanup(func() {
		n.Kill()
		if err := <-done; !errors.Is(err, errKilled) && err != nil {
			t.Error(err)
		}
	})
	return n
}

// get reads a page, again and again until the node serves.
func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(body)
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
}

func TestANodeIsNotTakenForAnOllama(t *testing.T) {
	first := start(t, testConfig(t))
	get(t, http.DefaultClient, first.Endpoint()+"/")
	c := testConfig(t)
	c.Ollama = first.APIAddr().String()
	second, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); !errors.Is(err, backend.ErrLoop) {
		t.Errorf("got %v", err)
	}
}

// With --tls the port speaks https to all, and plain HTTP to this machine,
// where the ollama command knows nothing else.
func TestClientPortWithACertificate(t *testing.T) {
	c := testConfig(t)
	c.TLS = true
	n := start(t, c)
	if got := get(t, http.DefaultClient, n.Endpoint()+"/"); got != "Ollama is running" {
		t.Errorf("plain, from this machine: %q", got)
	}
	pem, err := os.ReadFile(filepath.Join(c.StateDir, certFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer tr.CloseIdleConnections()
	if got := get(t, &http.Client{Transport: tr}, "https://"+n.APIAddr().String()+"/"); got != "Ollama is running" {
		t.Errorf("https: %q", got)
	}
	info, err := os.Stat(filepath.Join(c.StateDir, certKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v", info.Mode(), err)
	}
	c.StateDir, c.TLSCert = t.TempDir(), "nowhere.pem"
	if n, err := New(c); err == nil {
		n.Close()
		t.Error("half a certificate was taken")
	}
}
