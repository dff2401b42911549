package mesh

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Protocol is the version of what peers speak to each other: gossip tags,
// beacons and the routes under /mesh/v1. Nodes of different versions do not
// join.
const Protocol = 1

// hello is what two nodes tell each other before one joins the other. It says
// nothing of who they are: only whether joining can work, so that a refusal has
// a reason (the gossip library just hangs up), and whether it is oneself.
type hello struct {
	Protocol int      `json:"protocol"`
	Instance string   `json:"instance"`          // random per process
	Keyed    bool     `json:"keyed"`             // this mesh has a key
	Tags     []string `json:"tags"`              // see [Key.Tag], one per key of the ring
	Label    string   `json:"label"`             // hash of the mesh's name, as every gossip packet shows it
	Cluster  string   `json:"cluster,omitempty"` // only without a key
}

// errSelf means that an address turned out to be our own.
var errSelf = errors.New("mesh: that is this node itself")

const (
	helloTimeout = 3 * time.Second
	maxHello     = 4 << 10
)

func newHello(cluster string, keys []Key) hello {
	h := hello{Protocol: Protocol, Instance: rand.Text(), Keyed: len(keys) > 0, Label: Key{}.Tag(cluster)}
	if !h.Keyed {
		h.Cluster = cluster
		h.Tags = []string{h.Label}
	}
	for _, k := range keys {
		h.Tags = append(h.Tags, k.Tag(cluster))
	}
	return h
}

// greeting is the hello of now: a rotation changes its tags.
func (m *Mesh) greeting() hello {
	h := m.hello
	h.Tags = m.keys.tags()
	return h
}

// check says whether h can join the node that said o.
func (h hello) check(o hello) error {
	switch {
	case o.Instance == h.Instance:
		return errSelf
	case o.Protocol != h.Protocol:
		return fmt.Errorf("%w (%d, this node %d)", ErrProtocol, o.Protocol, h.Protocol)
	case o.Keyed != h.Keyed && o.Label != h.Label:
		return fmt.Errorf("%w of another name", ErrOtherCluster)
	case o.Keyed && !h.Keyed:
		return ErrKeyNeeded
	case h.Keyed && !o.Keyed:
		return ErrKeyMissing
	case slices.ContainsFunc(o.Tags, func(t string) bool { return slices.Contains(h.Tags, t) }):
		return nil
	case h.Keyed && o.Label == h.Label:
		return ErrWrongKey
	case h.Keyed:
		return fmt.Errorf("%w of another name", ErrOtherCluster)
	}
	return fmt.Errorf("%w: %q, this node belongs to %q", ErrOtherCluster, clean(o.Cluster, 64), h.Cluster)
}

// greet asks the node at addr whether it can be joined.
func (h hello) greet(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(append([]byte{ourByte}, h.encode()...)); err != nil {
		return fmt.Errorf("%w: %w", ErrNoMesh, err)
	}
	o, err := readHello(conn)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoMesh, err)
	}
	return h.check(o)
}

// answer is the other side of greet. The error says why the caller will not
// join, for the log.
func (h hello) answer(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(helloTimeout))
	o, err := readHello(conn)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoMesh, err)
	}
	if _, err := conn.Write(h.encode()); err != nil {
		return fmt.Errorf("mesh: answer hello: %w", err)
	}
	return h.check(o)
}

// encode gives two bytes of length and the JSON form.
func (h hello) encode() []byte {
	body, err := json.Marshal(h)
	if err != nil {
		panic("mesh: encode hello: " + err.Error()) // strings and numbers only
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...) //nolint:gosec // a few short fields of our own
}

func readHello(r io.Reader) (hello, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return hello{}, err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxHello {
		return hello{}, fmt.Errorf("hello of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return hello{}, err
	}
	return parseHello(body)
}

func parseHello(body []byte) (hello, error) {
	var h hello
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&h); err != nil {
		return hello{}, errors.New("hello is no JSON")
	}
	if h.Protocol == 0 || len(h.Tags) == 0 {
		return hello{}, errors.New("hello is not complete")
	}
	return h, nil
}
