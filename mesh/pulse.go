package mesh

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// readBeacons checks signed reports, apart from the loop and the socket: that takes
// time.
func (m *Mesh) readBeacons(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-m.datagrams:
			m.readBeacon(d.b, d.from)
		}
	}
}

func (m *Mesh) readBeacon(b []byte, from netip.AddrPort) {
	now := time.Now()
	switch l, err := m.beacons.decode(b, now, m.isNews); {
	case err != nil:
		if ok, missed := m.refused.pass("beacon", now); ok {
			m.log.Warn("datagram refused", "from", from, "err", err, "repeated", missed)
		}
	case l != nil:
		m.reports.add(l)
	}
}

// isNews is a cheap look before a signature is checked.
func (m *Mesh) isNews(l *Load) bool {
	member, ok := m.View().Member(l.Node)
	if !ok || member.Self {
		return false
	}
	return member.Load == nil || l.Incarnation != member.Load.Incarnation || l.Seq > member.Load.Seq
}

// sendBeacons states this node's load: at once when it changed, else once per
// period.
func (m *Mesh) sendBeacons(ctx context.Context) {
	var sent *Load         // what others heard last
	var at, next time.Time // when that was, and when the next periodic one is due
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.loadChanged:
		case <-timer.C:
		}
		if m.left.Load() {
			continue // for ever: no timer is set
		}
		now := time.Now()
		to := targets(m.View())
		due := next
		if urgent := at.Add(m.cfg.Profile.slow(beaconSpacing(len(to) + 1))); urgent.Before(next) && significant(sent, m.Load()) {
			due = urgent
		}
		if wait := due.Sub(now); wait > 0 {
			timer.Reset(wait)
			continue
		}
		if len(to) > 0 {
			sent, at = m.refresh(), now
			m.sendBeacon(sent, to, now)
			poke(m.ownChanged)
		}
		period := m.cfg.Profile.slow(beaconPeriod(len(to) + 1))
		period -= time.Duration(rand.Int64N(int64(period / 5))) // so that nodes drift apart
		next = now.Add(period)
		timer.Reset(period)
	}
}

func (m *Mesh) sendBeacon(l *Load, to []target, now time.Time) {
	statement, err := m.beacons.encode(l, now)
	if err != nil {
		m.log.Error("make load report", "err", err)
		return
	}
	for _, t := range to {
		b, err := statement.to(t.id)
		if err == nil {
			err = m.transport.send(b, t.addr)
		}
		if err != nil {
			m.log.Debug("send load report", "to", t.addr, "err", err)
		}
	}
}

// receiveDatagram is called by the transport and must not block; b is the
// transport's again afterwards. Nearly all are reports with a MAC, which are read at
// once: to wake a goroutine costs as much as to read one.
func (m *Mesh) receiveDatagram(b []byte, from netip.AddrPort) {
	switch {
	case m.echoes.take(b, from, time.Now()):
	case len(b) > 0 && b[0] == beaconPaired:
		m.readBeacon(b, from)
	default:
		select {
		case m.datagrams <- datagram{bytes.Clone(b), from}:
		default: // a flood; the next report comes soon
		}
	}
}

// reports are load reports on their way to the loop. It need not be woken for each:
// it takes them when the next View is due.
type reports struct {
	ready chan struct{} // there are some

	mu   sync.Mutex
	list []*Load
}

// maxReports bounds what waits, should the loop be stuck: reports come again.
const maxReports = 4096

func (r *reports) add(l *Load) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) < maxReports {
		r.list = append(r.list, l)
	}
	if len(r.list) == 1 {
		poke(r.ready)
	}
}

// take hands out what waits, in the order in which it came.
func (r *reports) take() []*Load {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return list
}
