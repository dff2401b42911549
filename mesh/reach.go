package mesh

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// Reach is what two nodes found out about the paths between them, each way,
// over connections of their own. A path that works is the empty Fault.
type Reach struct {
	Node NodeID `json:"node"`
	Name string `json:"name"`
	Addr string `json:"address"` // gossip

	Link   Fault `json:"link,omitzero"`   // we to its peer port, TLS and a bulky answer
	Gossip Fault `json:"gossip,omitzero"` // we to its gossip port, TCP
	// Small and Large are datagrams of [EchoSizes].
	Small Datagram `json:"udp_small"`
	Large Datagram `json:"udp_large"`
	// Asked says that the peer link works, so that the member could be asked;
	// without it nothing is known of the datagrams and of the ways back.
	Asked      bool  `json:"asked"`
	BackLink   Fault `json:"back_link,omitzero"`   // it to our peer port
	BackGossip Fault `json:"back_gossip,omitzero"` // it to our gossip port, TCP

	RTT    time.Duration `json:"rtt"`          // ns, of one small question over the peer link
	Offset time.Duration `json:"clock_offset"` // ns, its clock minus ours, to about half of RTT
}

// Datagram is how far a datagram came.
type Datagram struct {
	There bool `json:"there"` // the member has it
	Back  bool `json:"back"`  // its answer came back
}

// Fault is why a path does not work.
type Fault struct {
	// Kind is one of refused, timeout, unreachable (while connecting),
	// handshake (connected, then no TLS), forbidden, stalled (small answers
	// come, large ones do not), old (it does not know the question), other.
	Kind string `json:"kind,omitempty"`
	Text string `json:"text,omitempty"`
}

const (
	reachPath  = "/mesh/v1/reach"
	reachBulk  = 32 << 10 // bytes of padding each way: some twenty full packets
	reachLimit = 3 * time.Second
	echoWait   = 600 * time.Millisecond
	maxReaches = 16 // members at once
)

// reachAsk and reachTell are a question about paths and its answer. Token alone
// agrees on it; with Tell the member says what it has heard under it and tries
// the ways back.
type reachAsk struct {
	Token string `json:"token"`
	Tell  bool   `json:"tell,omitempty"`
	Bulk  string `json:"bulk,omitempty"`
}

type reachTell struct {
	Now        time.Time `json:"now"`
	Heard      []int     `json:"heard,omitempty"`
	BackLink   Fault     `json:"back_link,omitzero"`
	BackGossip Fault     `json:"back_gossip,omitzero"`
	Bulk       string    `json:"bulk,omitempty"`
}

// Reach tries every path to each of the other members that have not left, and
// asks them to try the ways back. It takes up to some ten seconds when nothing
// answers.
func (m *Mesh) Reach(ctx context.Context) []Reach {
	var members []*Member
	for _, o := range m.View().Members() {
		if !o.Self && o.Status != Left {
			members = append(members, o)
		}
	}
	out := make([]Reach, len(members))
	room := make(chan struct{}, maxReaches)
	var wg sync.WaitGroup
	for i, o := range members {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			out[i] = m.reach(ctx, o)
		})
	}
	wg.Wait()
	return out
}

// Greet asks the node at a gossip address whether it could be joined; the error
// is one of those that a [JoinError] wraps, or the network's.
func (m *Mesh) Greet(ctx context.Context, addr string) error {
	err := m.greeting().greet(ctx, addr)
	if errors.Is(err, errSelf) {
		return nil
	}
	return err
}

func (m *Mesh) reach(ctx context.Context, o *Member) Reach {
	r := Reach{Node: o.ID, Name: o.Name, Addr: o.Addr.String()}
	var wg sync.WaitGroup
	wg.Go(func() { r.Gossip = faultOf(m.connect(ctx, o.Addr)) })
	wg.Go(func() { m.reachByLink(ctx, o, &r) })
	wg.Wait()
	return r
}

func (m *Mesh) reachByLink(ctx context.Context, o *Member, r *Reach) {
	if r.Link = faultOf(m.connect(ctx, o.Peer())); r.Link.Kind != "" {
		return
	}
	rt := m.freshTransport(o)
	defer rt.CloseIdleConnections()
	t := newToken()
	text := base64.RawURLEncoding.EncodeToString(t[:])

	// The first question pays for the handshake, the second is timed.
	if _, err := m.askReach(ctx, rt, o.ID, reachAsk{Token: text}); err != nil {
		r.Link = linkFault(err)
		return
	}
	start := time.Now()
	told, err := m.askReach(ctx, rt, o.ID, reachAsk{Token: text})
	if err != nil {
		r.Link = linkFault(err)
		return
	}
	r.RTT = time.Since(start)
	r.Offset = told.Now.Sub(start.Add(r.RTT / 2))
	r.Asked = true

	back := m.echo(ctx, t, o.Addr)
	told, err = m.askReach(ctx, rt, o.ID, reachAsk{Token: text, Tell: true})
	if err != nil {
		r.Asked, r.Link = false, linkFault(err)
		return
	}
	r.Small, r.Large = datagramOf(EchoSizes[0], told.Heard, back), datagramOf(EchoSizes[1], told.Heard, back)
	r.BackLink, r.BackGossip = told.BackLink, told.BackGossip
	told, err = m.askReach(ctx, rt, o.ID, reachAsk{Token: text, Bulk: strings.Repeat(".", reachBulk)})
	if err != nil || len(told.Bulk) != reachBulk {
		r.Link = Fault{Kind: "stalled", Text: fmt.Sprintf("%d bytes do not get through, small requests do", reachBulk)}
	}
}

func datagramOf(size int, heard, back []int) (d Datagram) {
	for _, s := range heard {
		d.There = d.There || s == size
	}
	for _, s := range back {
		d.Back = d.Back || s == size
	}
	return d
}

// echo sends datagrams of every size, twice for the loss of one, and returns
// the sizes that came back.
func (m *Mesh) echo(ctx context.Context, t token, to netip.AddrPort) []int {
	if !m.echoes.expect(t, true, time.Now()) {
		return nil
	}
	defer m.echoes.forget(t)
	timer := time.NewTimer(echoWait)
	defer timer.Stop()
	for range 2 {
		for _, size := range EchoSizes {
			if err := m.echoes.ask(t, size, to); err != nil {
				m.log.Debug("send echo", "to", to, "err", err)
			}
		}
	}
	for {
		sizes, news := m.echoes.heard(t)
		if len(sizes) == len(EchoSizes) {
			return sizes
		}
		select {
		case <-news:
		case <-timer.C:
			return sizes
		case <-ctx.Done():
			return sizes
		}
	}
}

// connect opens a TCP connection and closes it.
func (m *Mesh) connect(ctx context.Context, addr netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// freshTransport makes connections to o that nobody has used before: one that
// is open says nothing of whether a new one can be made.
func (m *Mesh) freshTransport(o *Member) *http.Transport {
	return m.cfg.Identity.Transport(
		func(NodeID) (netip.AddrPort, error) { return o.Peer(), nil },
		identity.TransportOptions{DialTimeout: reachLimit},
	)
}

// errStatus is an answer other than 200.
type errStatus int

func (e errStatus) Error() string { return fmt.Sprintf("it answers %d", int(e)) }

func (m *Mesh) askReach(ctx context.Context, rt http.RoundTripper, id NodeID, ask reachAsk) (told reachTell, err error) {
	limit := reachLimit
	if ask.Tell {
		limit *= 3 // it tries two ways back
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body, err := json.Marshal(ask)
	if err != nil {
		return told, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+string(id)+reachPath, bytes.NewReader(body))
	if err != nil {
		return told, err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return told, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return told, errStatus(resp.StatusCode)
	}
	return told, json.NewDecoder(io.LimitReader(resp.Body, 2*reachBulk)).Decode(&told)
}

// serveReach answers a member that wants to know how it reaches us.
func (m *Mesh) serveReach(w http.ResponseWriter, req *http.Request) {
	var ask reachAsk
	if err := json.NewDecoder(io.LimitReader(req.Body, 2*reachBulk)).Decode(&ask); err != nil {
		fail(w, http.StatusBadRequest, "not a question about paths")
		return
	}
	raw, err := base64.RawURLEncoding.DecodeString(ask.Token)
	if err != nil || len(raw) != tokenSize {
		fail(w, http.StatusBadRequest, "bad token")
		return
	}
	t, told := token(raw), reachTell{Now: time.Now(), Bulk: ask.Bulk}
	switch {
	case ask.Bulk != "":
	case ask.Tell:
		told.Heard, _ = m.echoes.heard(t)
		m.echoes.forget(t)
		m.reachBack(req, &told)
	default:
		if heard, _ := m.echoes.heard(t); heard == nil && !m.echoes.expect(t, false, time.Now()) {
			fail(w, http.StatusServiceUnavailable, "too many questions at once")
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(told)
}

// reachBack tries the ways back to who asks.
func (m *Mesh) reachBack(req *http.Request, told *reachTell) {
	id, _ := identity.PeerID(req) // the handler has checked it
	o, ok := m.View().Member(id)
	if !ok {
		told.BackLink = Fault{Kind: "other", Text: "the asker is no member here"}
		told.BackGossip = told.BackLink
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { told.BackGossip = faultOf(m.connect(req.Context(), o.Addr)) })
	wg.Go(func() {
		if told.BackLink = faultOf(m.connect(req.Context(), o.Peer())); told.BackLink.Kind != "" {
			return
		}
		rt := m.freshTransport(o)
		defer rt.CloseIdleConnections()
		if _, err := fetchLoad(req.Context(), rt, o.ID); err != nil {
			told.BackLink = linkFault(err)
		}
	})
	wg.Wait()
}

// Windows' numbers, see wsaeaddrinuse.
const (
	wsaeconnrefused = syscall.Errno(10061)
	wsaehostunreach = syscall.Errno(10065)
	wsaenetunreach  = syscall.Errno(10051)
)

// faultOf names why a TCP connection could not be made.
func faultOf(err error) Fault {
	if err == nil {
		return Fault{}
	}
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	f := Fault{Kind: "other", Text: clean(err.Error(), 200)}
	var timeout interface{ Timeout() bool }
	switch {
	case is(syscall.ECONNREFUSED, wsaeconnrefused):
		f.Kind, f.Text = "refused", "connection refused"
	case is(syscall.EHOSTUNREACH, syscall.ENETUNREACH, wsaehostunreach, wsaenetunreach):
		f.Kind, f.Text = "unreachable", "no route to the host"
	case is(context.DeadlineExceeded, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		f.Kind, f.Text = "timeout", "no answer in "+reachLimit.String()
	}
	return f
}

// linkFault names why a request over the peer link failed after its port had
// taken a connection.
func linkFault(err error) Fault {
	var status errStatus
	switch {
	case errors.As(err, &status) && status == http.StatusForbidden:
		return Fault{Kind: "forbidden", Text: "it does not take this node for a member"}
	case errors.As(err, &status) && status == http.StatusNotFound:
		return Fault{Kind: "old", Text: "its version cannot be asked"}
	}
	f := faultOf(err)
	if f.Kind == "timeout" {
		return Fault{Kind: "handshake", Text: "the port takes connections, then nothing more comes"}
	}
	return f
}
