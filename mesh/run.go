package mesh

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Run takes part in the mesh until ctx ends, then returns nil when everything
// that it started has ended. It does not say goodbye; that is [Mesh.Leave],
// before. It can be called once. It returns early only when it cannot start,
// or with [ErrIdentityConflict].
func (m *Mesh) Run(ctx context.Context) error {
	if !m.started.CompareAndSwap(false, true) {
		return errors.New("mesh: Run was called before")
	}
	defer close(m.done)
	sockets, closeSockets := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		// Whoever knocks earlier waits in the kernel: an answer before the engine
		// is up would be a promise that it cannot keep.
		select {
		case <-m.ready:
		case <-sockets.Done():
		}
		m.transport.run(sockets)
	})

	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return m.loop(inner) })
	group.Go(func() error { m.readBeacons(inner); return nil })
	group.Go(func() error { m.sendBeacons(inner); return nil })
	group.Go(func() error { return m.watchClaims(inner) })
	group.Go(func() error { m.settle(inner); return nil })
	err := group.Wait()

	closeSockets()
	wg.Wait()
	m.peers.CloseIdleConnections()
	return err
}

// loop moves values between channels and the state. It alone writes state,
// engine and board.
func (m *Mesh) loop(ctx context.Context) error {
	l := &looper{Mesh: m, ctx: ctx}
	if err := l.restart(m.chooseAddr()); err != nil {
		return err
	}
	defer func() {
		m.engine.Load().close()
		l.fetches.Wait()
	}()
	close(m.ready)
	m.log.Info("mesh is up", "node", m.self, "addr", m.Addr(), "cluster", m.cfg.Cluster, "keyed", m.Keyed())

	look := time.NewTicker(lookPeriod(0))
	defer look.Stop()
	move := time.NewTicker(m.moveEvery)
	defer move.Stop()
	hang := time.NewTimer(0) // publishes what waits for its turn
	defer hang.Stop()
	soon := time.NewTimer(time.Hour) // a look that was hinted at
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.hint:
			// When hundreds join at once there is a hint for each, and a look takes
			// as long as there are members.
			soon.Reset(max(0, time.Until(l.looked.Add(l.every(lookSpacing)))))
		case <-soon.C:
			l.look()
		case <-look.C:
			if time.Since(l.looked) > l.every(lookPeriod)*9/10 {
				l.look()
			}
		case f := <-m.inbox:
			l.take(f)
		case <-m.reports.ready:
			l.waiting = true
		case <-m.ownChanged:
			l.speak()
		case <-move.C:
			if err := l.move(); err != nil {
				return err
			}
		case <-hang.C:
		}
		if wait := l.publish(time.Now()); wait > 0 {
			hang.Reset(wait)
		}
	}
}

// looper is the loop's own part of a Mesh.
type looper struct {
	*Mesh
	ctx       context.Context
	number    uint64 // of the engine
	tags      Info   // last announced
	dirty     bool   // the state changed since the last View
	waiting   bool   // there are reports that it does not know yet
	published time.Time
	looked    time.Time
	sightings []sighting // room for the next look
	fetching  int
	fetches   sync.WaitGroup
}

// restart replaces the engine, if there is one, by one that advertises addr.
func (l *looper) restart(addr netip.AddrPort) error {
	old := l.engine.Load()
	known := l.Addrs()
	if old != nil {
		old.close()
	}
	info, _, _ := l.own.facts()
	e, err := l.startEngine(l.number+1, addr, tagsOf(info))
	if err != nil {
		return err
	}
	l.number++
	l.tags = info
	l.engine.Store(e)
	l.look()
	if old != nil && len(known) > 0 {
		l.fetches.Go(func() { l.rejoin(known); poke(l.unsettled) })
	}
	return nil
}

// look reads the truth from the engine and starts what is due.
func (l *looper) look() {
	e := l.engine.Load()
	now := time.Now()
	l.looked = now
	list := slices.DeleteFunc(e.members(l.sightings[:0]), func(g sighting) bool { return g.ID != l.self && l.denied.has(g.ID) })
	e.gate.forget(list)
	l.dirty = l.state.sighted(now, e.number, list) || l.state.expired(now) || l.dirty
	clear(list)
	l.sightings = list
	l.fetchDue(now)
}

// take applies an event and whatever else waits, so that a burst makes one
// View.
func (l *looper) take(f func(*state, time.Time) bool) {
	now := time.Now()
	for range 256 {
		l.dirty = f(l.state, now) || l.dirty
		select {
		case f = <-l.inbox:
		default:
			return
		}
	}
}

// speak takes over what this node says of itself.
func (l *looper) speak() {
	info, card, load := l.own.facts()
	l.dirty = l.state.own(time.Now(), info, card, load) || l.dirty
	if info != l.tags && !l.left.Load() {
		l.tags = info
		l.engine.Load().setTags(tagsOf(info))
	}
}

// move starts the engine anew when the machine has another address now.
func (l *looper) move() error {
	if !l.movable() || l.left.Load() {
		return nil
	}
	cur := l.engine.Load().addr
	addr, ok := moved(cur.Addr(), l.locals())
	if !ok {
		return nil
	}
	to := netip.AddrPortFrom(addr, cur.Port())
	l.log.Info("this machine has a new address", "old", cur, "new", to)
	return l.restart(to)
}

// every is how often something is done that is rarer in large meshes.
func (l *looper) every(pace func(members int) time.Duration) time.Duration {
	return l.cfg.Profile.slow(pace(len(l.state.members)))
}

// publish hangs out a new View when something changed, or returns how long to
// wait with it.
func (l *looper) publish(now time.Time) time.Duration {
	wait := l.published.Add(l.every(publishSpacing)).Sub(now)
	if l.waiting && wait <= 0 {
		l.waiting = false
		for _, r := range l.reports.take() {
			l.dirty = l.state.heard(now, r) || l.dirty
		}
	}
	l.report()
	switch {
	case !l.dirty && !l.waiting:
		return 0
	case wait > 0:
		return wait
	}
	l.dirty, l.published = false, now
	l.board.publish(l.state.view(now))
	return 0
}

// report logs what happened to members.
func (l *looper) report() {
	for _, c := range l.state.takeChanges() {
		log := l.log.With("node", c.member.ID, "host", c.member.Info.Hostname, "addr", c.member.Addr)
		switch c.what {
		case joined:
			log.Info("member joined")
		case returned:
			log.Info("member returned")
		case restarted:
			log.Info("member restarted")
		case gone:
			log.Info("member left")
		case lost:
			log.Warn("member failed")
		}
		if c.what == joined || c.what == returned {
			l.fetches.Go(func() { l.learnDenials(l.ctx, c.member.ID) })
		}
	}
}

// fetchDue starts the fetches that are due.
func (l *looper) fetchDue(now time.Time) {
	for _, j := range l.state.due(now, maxFetches-l.fetching) {
		l.fetching++
		l.fetches.Go(func() {
			got := l.fetch(l.ctx, j)
			jitter := rand.Float64()
			done := func(s *state, now time.Time) bool {
				l.fetching--
				changed := s.fetched(now, j, got, jitter)
				poke(l.hint) // others may have waited for room
				return changed
			}
			select {
			case l.inbox <- done:
			case <-l.ctx.Done():
			}
		})
	}
}
