package backend

import "time"

// queue is what waits for one load of one model, in the class of its first.
type queue struct {
	head   *Entry
	weight float64 // what a second of their waiting costs, summed
	work   float64 // seconds of the device that they take
}

// unpassed is how many times what a request waits for in the worst case, all
// that wait here and its own load, it may wait before nobody passes it any more.
const unpassed = 3

// claim is the waiting request for whose model the device is to be cleared, nil
// none: what runs there goes on to its end, but nothing else that is in its way
// starts.
//
// A request that has waited for room for its patience claims it if serving all
// that wait for its model, with its load and those of the models that must make
// way and are wanted back, relieves more waiting by the second than going on
// without: the c-mu rule for queues with set-up times (Duenyas, Van Oyen 1996),
// where a second weighs the more the longer the wait ([Pressing]). To stay with
// a model that nobody waits for relieves as much as those will need who are to
// come.
//
// In order of arrival instead, two large models that push each other out share
// a device in turns of equal number, whatever a turn takes. With 40 requests of
// 3 s behind 4 of a minute, each turn leaves more waiting than it found, for an
// hour of a simulation.
func (b *board) claim(now time.Time) *Entry {
	var buf [8]queue
	qs := b.queues(buf[:0])
	waits := false
	for i := range qs {
		waits = waits || b.wantsRoom(qs[i].head, now)
	}
	if !waits {
		return nil
	}
	b.weigh(qs, now)
	var best *Entry
	most := 0.0
	for i := range qs {
		q := &qs[i]
		if !b.wantsRoom(q.head, now) || best != nil && best.class() < q.head.class() {
			continue
		}
		if v := b.relief(qs, q, now); v > most {
			most, best = v, q.head
		}
	}
	return best
}

// claimWith is the claim if e waited, too.
func (b *board) claimWith(e *Entry, now time.Time) *Entry {
	b.line = append(b.line, e)
	claim := b.claim(now)
	b.line = b.line[:len(b.line)-1]
	return claim
}

// patience is how long a request waits for room for the runner before it may
// claim it.
func (r *runner) patience() time.Duration { return max(leastPatience, 2*seconds(r.speed.Cold)) }

// wantsRoom reports whether e has waited for its patience and needs room, or
// has just got it: if the claim ended with the last request that was in its way,
// the next of those would start, and the device would be cleared for nothing, over
// and over, with one slot of it in use.
func (b *board) wantsRoom(e *Entry, now time.Time) bool {
	if now.Sub(e.arrived) < e.patience {
		return false
	}
	switch b.hold(e, now) {
	case noRoom:
		return true
	case free:
		r := b.runners[e.runner]
		return !r.held() || !r.fits(e.want)
	default:
		return false
	}
}

// queues finds who is first in line for each load of a model.
func (b *board) queues(qs []queue) []queue {
next:
	for _, e := range b.line {
		for i := range qs {
			if qs[i].head.together(e) {
				continue next
			}
		}
		qs = append(qs, queue{head: e})
	}
	return qs
}

// together reports whether the same load of a model serves both.
func (e *Entry) together(o *Entry) bool { return e.runner == o.runner && e.want == o.want }

// weigh sums up who waits. A second of a client counts once, however many of
// its requests wait here: a script with fifty of them is not pressing fifty
// times as much.
func (b *board) weigh(qs []queue, now time.Time) {
	count := make(map[string]float64)
	for _, e := range b.line {
		count[e.Client]++
	}
	for _, e := range b.line {
		r := b.runners[e.runner]
		for i := range qs {
			q := &qs[i]
			if !q.head.together(e) || q.head.class() != e.class() {
				continue
			}
			q.weight += Pressing(now.Sub(e.arrived).Seconds()) / count[e.Client]
			q.work += r.speed.lone(e.Work) * (1 + r.speed.Slope*float64(r.slots-1)) / float64(r.slots)
			break
		}
	}
}

// relief is what clearing the device for q relieves by the second; 0 if going on
// without relieves more, and q has not waited too long for that.
func (b *board) relief(qs []queue, q *queue, now time.Time) float64 {
	setup, all, without := b.runners[q.head.runner].speed.Cold, 0.0, 0.0
	for i := range qs {
		x := &qs[i]
		if x.head.class() <= q.head.class() {
			all += x.work
		}
		r := b.runners[x.head.runner]
		if x == q || !r.held() || !r.fits(x.head.want) || !b.clash(x.head, q.head) {
			continue
		}
		if x.head.class() < q.head.class() {
			return 0 // batch work clears nothing that somebody waits for
		}
		if x.head.class() == q.head.class() {
			without = max(without, x.weight/x.work)
			setup += r.speed.Cold
		}
	}
	// Who is served as soon as they come do not wait: to stay for them relieves
	// as much as they bring.
	for id, r := range b.runners {
		if id != q.head.runner && r.held() && b.crowds(r.size, q.head) {
			without = max(without, r.rateAt(now))
		}
	}
	with := q.weight / (q.work + setup)
	if with <= without && now.Sub(q.head.arrived) < unpassed*seconds(setup+all) {
		return 0
	}
	return with
}

// barred reports whether e has to wait for the sake of claim.
func (b *board) barred(e, claim *Entry) bool {
	return claim != nil && !e.together(claim) && e.class() >= claim.class() && b.clash(e, claim)
}

// clash reports whether e's model is in the way of claim's.
func (b *board) clash(e, claim *Entry) bool {
	if e.runner == claim.runner {
		return e.want != claim.want
	}
	if b.crowds(e.footprint, claim) {
		return true
	}
	// The two would fit. But if that goes for each model that runs, then it is
	// all of them together that leave no room.
	for id, r := range b.runners {
		if r.running > 0 && id != claim.runner && b.crowds(r.size, claim) {
			return false
		}
	}
	return true
}

// crowds reports whether claim's model finds no room beside one of so many
// bytes.
func (b *board) crowds(size uint64, claim *Entry) bool {
	if b.limits.MaxLoaded == 1 || b.limits.Memory == 0 || size == 0 || claim.footprint == 0 {
		return true
	}
	return float64(size)+float64(claim.footprint)/besideOthers > float64(b.limits.Memory)
}
