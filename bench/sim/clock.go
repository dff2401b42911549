package sim

import "container/heap"

// event is something that happens at a moment of simulated time.
type event struct {
	at  float64
	seq int // of equal moments, the first planned is the first
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return x
}

// clock runs events in the order of their moments.
type clock struct {
	now  float64
	plan events
	seq  int
}

// at plans do for the moment t, now at the earliest.
func (c *clock) at(t float64, do func()) {
	c.seq++
	heap.Push(&c.plan, event{max(t, c.now), c.seq, do})
}

// after plans do for dt seconds from now.
func (c *clock) after(dt float64, do func()) { c.at(c.now+dt, do) }

// run goes on until over says so, or nothing is left to happen.
func (c *clock) run(over func() bool) {
	for len(c.plan) > 0 && !over() {
		e := heap.Pop(&c.plan).(event)
		c.now = e.at
		e.do()
	}
}
