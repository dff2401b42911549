package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Trust is what the routes about keys and evictions need; *mesh.Mesh is one.
type Trust interface {
	Keyed() bool
	KeysOf(context.Context) []mesh.NodeKeys
	RotateKey(context.Context, mesh.Key) error
	RemoveKey(ctx context.Context, fingerprint string) error
	Evict(context.Context, mesh.NodeID) error
	Trust(context.Context, mesh.NodeID) error
}

// Keys is the answer of /mesh/v1/keys: which keys each live member has, by
// fingerprint, the one that it sends with first.
type Keys struct {
	SchemaVersion int             `json:"schema_version"`
	Keyed         bool            `json:"keyed"`
	Nodes         []mesh.NodeKeys `json:"nodes"`
}

// Rotated is the answer of /mesh/v1/keys/rotate. Key is the new mesh key, to be
// given to nodes that were away and to new ones.
type Rotated struct {
	Key         string `json:"key"`
	Fingerprint string `json:"fingerprint"`
}

// change is the body of the routes that change something.
type change struct {
	Fingerprint string `json:"fingerprint,omitempty"`
	Node        string `json:"node,omitempty"` // name or id
}

// changeLimit bounds a change: every member is asked several times, with a
// pause of seconds between.
const changeLimit = 60 * time.Second

func trustRoutes(c Config, local func(string, http.HandlerFunc)) {
	t := c.Trust
	do := func(pattern string, act func(context.Context, change) (any, error)) {
		local(pattern, func(w http.ResponseWriter, req *http.Request) {
			var ch change
			if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 4<<10)).Decode(&ch); err != nil {
				write(w, http.StatusBadRequest, problem{"the body is no JSON object"})
				return
			}
			// A rotation that has begun goes on when whoever asked hangs up.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), changeLimit)
			defer cancel()
			out, err := act(ctx, ch)
			if err != nil {
				write(w, http.StatusConflict, problem{err.Error()})
				return
			}
			write(w, http.StatusOK, out)
		})
	}
	local("GET /mesh/v1/keys", func(w http.ResponseWriter, req *http.Request) {
		write(w, http.StatusOK, Keys{SchemaVersion, t.Keyed(), t.KeysOf(req.Context())})
	})
	do("POST /mesh/v1/keys/rotate", func(ctx context.Context, _ change) (any, error) {
		next := mesh.NewKey()
		return Rotated{next.String(), next.Fingerprint()}, t.RotateKey(ctx, next)
	})
	do("POST /mesh/v1/keys/remove", func(ctx context.Context, ch change) (any, error) {
		return struct{}{}, t.RemoveKey(ctx, ch.Fingerprint)
	})
	do("POST /mesh/v1/evict", func(ctx context.Context, ch change) (any, error) {
		id, err := nodeOf(c.View(), ch.Node)
		if err == nil {
			err = t.Evict(ctx, id)
		}
		if err != nil || !t.Keyed() {
			return Rotated{}, err
		}
		next := mesh.NewKey()
		return Rotated{next.String(), next.Fingerprint()}, t.RotateKey(ctx, next)
	})
	do("POST /mesh/v1/trust", func(ctx context.Context, ch change) (any, error) {
		id, err := nodeOf(c.View(), ch.Node)
		if err != nil {
			return nil, err
		}
		return struct{}{}, t.Trust(ctx, id)
	})
}

// nodeOf finds a node by id, or by a name that only one member has.
func nodeOf(v *mesh.View, name string) (mesh.NodeID, error) {
	if id := mesh.NodeID(name); id.Valid() {
		return id, nil
	}
	if m, ok := v.Lookup(name); ok {
		return m.ID, nil
	}
	return "", fmt.Errorf("admin: no member '%.80s'; an evicted node is named by its id", name)
}

// Keys asks for /mesh/v1/keys.
func (c Client) Keys(ctx context.Context) (Keys, error) {
	var k Keys
	return k, c.call(ctx, http.MethodGet, "keys", &k)
}

// RotateKey gives the mesh a new key.
func (c Client) RotateKey(ctx context.Context) (Rotated, error) {
	var r Rotated
	return r, c.change(ctx, "keys/rotate", change{}, &r)
}

// RemoveKey ends a rotation that was not finished.
func (c Client) RemoveKey(ctx context.Context, fingerprint string) error {
	return c.change(ctx, "keys/remove", change{Fingerprint: fingerprint}, nil)
}

// Evict shuts a node out and, in a keyed mesh, gives the others a new key.
func (c Client) Evict(ctx context.Context, node string) (Rotated, error) {
	var r Rotated
	return r, c.change(ctx, "evict", change{Node: node}, &r)
}

// Trust takes an eviction back.
func (c Client) Trust(ctx context.Context, node string) error {
	return c.change(ctx, "trust", change{Node: node}, nil)
}

// change posts what changes something; it may take a while.
func (c Client) change(ctx context.Context, route string, ch change, out any) error {
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: changeLimit + 5*time.Second}
	}
	if out == nil {
		out = &struct{}{}
	}
	return c.post(ctx, route, ch, out)
}
