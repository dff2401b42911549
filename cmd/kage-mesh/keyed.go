package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/term"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/discovery"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// keyWatch is the mesh as discovery sees it. It notes which nodes found could
// not be joined because of keys: the difference is worth a word to a person,
// not only a line per try.
type keyWatch struct {
	*mesh.Mesh
	found chan error
}

func newKeyWatch(m *mesh.Mesh) keyWatch { return keyWatch{m, make(chan error, 1)} }

// Join implements discovery.Joiner.
func (k keyWatch) Join(ctx context.Context, addrs ...string) (int, error) {
	n, err := k.Mesh.Join(ctx, addrs...)
	if errors.Is(err, mesh.ErrKeyNeeded) || errors.Is(err, mesh.ErrWrongKey) || errors.Is(err, mesh.ErrKeyMissing) {
		select {
		case k.found <- err:
		default:
		}
	}
	return n, err
}

// errKeyNeeded says that a mesh of this node's name has a key.
var errKeyNeeded = errors.New("has a key and this node has none")

// watch ends a node that would form a second mesh beside a keyed one of the
// same name; one that has members already only says so, as does a node with
// another key: whoever answers on a network must not be able to stop a mesh.
func (k keyWatch) watch(ctx context.Context, cluster string, log *slog.Logger) error {
	var needed, wrong, missing sync.Once
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case err = <-k.found:
		}
		switch {
		case errors.Is(err, mesh.ErrKeyNeeded) && others(k.View()) == 0:
			return &failure{
				code:  codeKey,
				cause: fmt.Errorf("the mesh '%s' on this network %w", cluster, errKeyNeeded),
				fix:   "put its key into a file and run 'kage-mesh join --key-file FILE', or name a mesh of your own with --cluster",
			}
		case errors.Is(err, mesh.ErrKeyNeeded):
			needed.Do(func() {
				log.Warn("another mesh of this name has a key", "cluster", cluster, "err", err,
					"fix", "join --key-file on this node, or another --cluster")
			})
		case errors.Is(err, mesh.ErrWrongKey):
			wrong.Do(func() {
				log.Warn("another mesh of this name has another key", "cluster", cluster, "err", err,
					"fix", "join --key-file with the key that 'kage-mesh keys rotate' printed there")
			})
		default:
			missing.Do(func() {
				log.Warn("a node of this mesh's name has no key", "cluster", cluster, "err", err,
					"fix", "join --key-file on that node")
			})
		}
	}
}

// askKey asks a person for the mesh key, without showing it.
func (e environment) askKey(cluster string) (mesh.Key, bool) {
	in, ok := e.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return mesh.Key{}, false
	}
	for range 3 {
		fmt.Fprintf(e.stderr, "the mesh '%s' on this network has a key\nmesh key: ", cluster)
		text, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(e.stderr)
		if err != nil || len(text) == 0 {
			return mesh.Key{}, false
		}
		key, err := mesh.ParseKey(string(text))
		if err == nil {
			return key, true
		}
		fmt.Fprintf(e.stderr, "%v\n", err)
	}
	return mesh.Key{}, false
}

// undecided hands on what a source finds without the mesh that it names: a
// node without the key, or with a wrong one, could not tell from the tag that
// it belongs there. The hello before a join tells.
type undecided struct{ discovery.Source }

func (u undecided) Run(ctx context.Context, found func(discovery.Peer)) error {
	return u.Source.Run(ctx, func(p discovery.Peer) {
		p.Cluster = ""
		found(p)
	})
}
