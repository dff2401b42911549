package mesh

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"
)

// readBeacons opens and checks datagrams, apart from the loop: signatures take
// time.
func (m *Mesh) readBeacons(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-m.datagrams:
			l, err := m.beacons.decode(d.b, time.Now(), m.isNews)
			if err != nil {
				if ok, missed := m.refused.pass("beacon", time.Now()); ok {
					m.log.Warn("datagram refused", "from", d.from, "err", err, "repeated", missed)
				}
				continue
			}
			if l != nil {
				m.offer(func(s *state, now time.Time) bool { return s.heard(now, l) })
			}
		}
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
		if urgent := at.Add(beaconSpacing(len(to) + 1)); urgent.Before(next) && significant(sent, m.Load()) {
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
		period := beaconPeriod(len(to) + 1)
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

// receiveDatagram is called by the transport and must not block.
func (m *Mesh) receiveDatagram(b []byte, from netip.AddrPort) {
	if m.echoes.take(b, from, time.Now()) {
		return
	}
	select {
	case m.datagrams <- datagram{b, from}:
	default: // a flood; the next report comes soon
	}
}
