package mesh

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Join makes this node a member of the meshes of the nodes at addrs: "host",
// "host:port" or an IP address; the port is 11437 when none is given. It waits
// until Run is up. It returns how many of the addresses belong to this mesh
// now, and for each that does not a [*JoinError] with the reason (see
// [ErrOtherCluster] and the others there), joined into one error; both can be
// set. An address that turns out to be this node itself counts as neither.
func (m *Mesh) Join(ctx context.Context, addrs ...string) (int, error) {
	e, err := m.running(ctx)
	if err != nil {
		return 0, err
	}
	type answer struct {
		ok  bool
		err error
	}
	answers := make([]answer, len(addrs))
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxFetches)
	for i, addr := range addrs {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ok, err := m.joinOne(ctx, e, addr)
			if err != nil {
				err = &JoinError{Addr: addr, Err: err}
			}
			answers[i] = answer{ok, err}
		})
	}
	wg.Wait()
	n := 0
	var errs []error
	for _, a := range answers {
		if a.ok {
			n++
		}
		if a.err != nil {
			errs = append(errs, a.err)
		}
	}
	return n, errors.Join(errs...)
}

// joinOne tries the addresses of one host until one works.
func (m *Mesh) joinOne(ctx context.Context, e *engine, addr string) (bool, error) {
	targets, err := lookup(ctx, addr)
	if err != nil {
		return false, err
	}
	var last error
	for _, to := range targets {
		if m.isMember(to) {
			return true, nil
		}
		err := m.greeting().greet(ctx, to.String())
		switch {
		case errors.Is(err, errSelf):
			return false, nil
		case err == nil:
			err = m.exchange(ctx, e, to)
		}
		if err == nil {
			return true, nil
		}
		last = err
	}
	return false, last
}

// isMember reports whether a member that is alive has this gossip address:
// discovery finds the same nodes over and over.
func (m *Mesh) isMember(addr netip.AddrPort) bool {
	for _, member := range m.View().Members() {
		if !member.Self && member.Status == Alive && member.Addr == addr {
			return true
		}
	}
	return false
}

// exchange swaps member lists with a node that can be joined. The engine knows
// no contexts; what is left behind ends with it, or after its own time limit.
func (m *Mesh) exchange(ctx context.Context, e *engine, to netip.AddrPort) error {
	done := make(chan error, 1)
	go func() { done <- e.join(to) }()
	select {
	case err := <-done:
		m.wake()
		if err == nil {
			poke(m.unsettled)
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// rejoin exchanges member lists with a few members that are known already, drawn
// at random: a thousand nodes that do it together must not all ask the same. The
// rest follows by gossip.
func (m *Mesh) rejoin(addrs []netip.AddrPort) {
	e := m.engine.Load()
	if e == nil {
		return
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] }) //nolint:gosec // spreads load, hides nothing
	want := retold(len(addrs))
	for _, a := range addrs {
		if want == 0 {
			break
		}
		if e.join(a) == nil {
			want--
		}
	}
	m.wake()
}

// lookup turns what a person wrote into addresses.
func lookup(ctx context.Context, addr string) ([]netip.AddrPort, error) {
	host, port, err := splitAddr(addr)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), port)}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	out := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return out, nil
}

// splitAddr reads "host", "host:port", "1.2.3.4", "fd00::1" and "[fd00::1]:1".
func splitAddr(addr string) (host string, port uint16, err error) {
	addr = strings.TrimSpace(addr)
	if ip, err := netip.ParseAddr(strings.Trim(addr, "[]")); err == nil {
		return ip.String(), DefaultPort, nil
	}
	if !strings.Contains(addr, ":") {
		if addr == "" {
			return "", 0, errors.New("empty address")
		}
		return addr, DefaultPort, nil
	}
	host, text, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("%.80q is no host:port", addr)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%.80q has no valid port", addr)
	}
	return host, uint16(n), nil
}

// receiveStream answers a node that wants to know whether it can join.
func (m *Mesh) receiveStream(ctx context.Context, conn net.Conn) {
	err := m.greeting().answer(ctx, conn)
	if err == nil || errors.Is(err, errSelf) {
		return
	}
	host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	if errors.Is(err, ErrOtherCluster) {
		m.log.Debug("a node of another mesh knocked", "from", host) // a neighbour
		return
	}
	if ok, missed := m.refused.pass("hello "+host, time.Now()); ok {
		m.log.Warn("a node that cannot join knocked", "from", host, "err", err, "repeated", missed)
	}
}
