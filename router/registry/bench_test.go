package registry

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// BenchmarkCopy brings a blob of 117 MB from a peer's disk through the registry
// into a file, in the way of Ollama's pull, over TLS on the loopback. Beside it
// a bare TCP copy from disk to disk: how much of it is left is the ratio.
func BenchmarkCopy(b *testing.B) {
	const size = 117 << 20
	digest := "sha256:" + strings.Repeat("0", 64)
	dir := b.TempDir()
	blob := filepath.Join(dir, "blobs", "sha256-"+strings.Repeat("0", 64))
	if err := os.MkdirAll(filepath.Dir(blob), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(blob, make([]byte, size), 0o644); err != nil {
		b.Fatal(err)
	}
	into := func(b *testing.B, from io.Reader) {
		f, err := os.Create(filepath.Join(dir, "copy"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if n, err := io.Copy(f, struct{ io.Reader }{from}); err != nil || n != size {
			b.Fatalf("%d bytes, %v", n, err)
		}
	}
	b.Run("plain", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				if f, err := os.Open(blob); err == nil {
					_, _ = io.Copy(conn, f)
					_ = f.Close()
				}
				_ = conn.Close()
			}
		}()
		b.SetBytes(size)
		for b.Loop() {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			into(b, conn)
			_ = conn.Close()
		}
	})
	b.Run("mesh", func(b *testing.B) {
		peer, self := newIdentity(b), newIdentity(b)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		server := &http.Server{
			Handler:   Peer{Dirs: []string{dir}},
			TLSConfig: peer.ServerTLS(func(identity.NodeID) bool { return true }),
			ErrorLog:  log.New(io.Discard, "", 0),
		}
		identity.ConfigureServer(server)
		go func() { _ = server.ServeTLS(l, "", "") }()
		defer server.Close()
		addr := netip.MustParseAddrPort(l.Addr().String())
		r, err := New(self.Transport(func(identity.NodeID) (netip.AddrPort, error) { return addr, nil }, identity.TransportOptions{Bulk: true}), nil)
		if err != nil {
			b.Fatal(err)
		}
		go func() { _ = r.Run(b.Context()) }()
		name, withdraw := r.Offer(peer.ID(), "m", "")
		defer withdraw()
		at := base(b, name) + "/blobs/" + digest
		b.SetBytes(size)
		for b.Loop() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, at, nil)
			if err != nil {
				b.Fatal(err)
			}
			req.Header.Set("Range", "bytes=0-")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				b.Fatal(err)
			}
			into(b, resp.Body)
			_ = resp.Body.Close()
		}
	})
}

func newIdentity(b *testing.B) *identity.Identity {
	b.Helper()
	id, err := identity.New()
	if err != nil {
		b.Fatal(err)
	}
	return id
}
