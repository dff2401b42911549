//go:build linux

package lab

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// faults is the state of the switch. The zero value forwards everything.
type faults struct {
	cut         map[[2]int]bool // frames from the first to the second vanish
	sides       map[int]int     // node to its side of a split; those not named are on side 0
	hole        map[int]bool
	noUDP       map[int]bool
	noMulticast map[int]bool
	loss        map[int]float64 // percent
}

// without is f with nothing left that concerns node i alone or as one of a
// pair. A split stays: it is not a matter of one node.
func (f faults) without(i int) faults {
	g := f.clone()
	for pair := range g.cut {
		if pair[0] == i || pair[1] == i {
			delete(g.cut, pair)
		}
	}
	delete(g.hole, i)
	delete(g.noUDP, i)
	delete(g.noMulticast, i)
	delete(g.loss, i)
	return g
}

func (f faults) clone() faults {
	return faults{
		cut: copied(f.cut), sides: copied(f.sides), hole: copied(f.hole),
		noUDP: copied(f.noUDP), noMulticast: copied(f.noMulticast), loss: copied(f.loss),
	}
}

// copied is a copy that is never nil.
func copied[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m))
	maps.Copy(c, m)
	return c
}

// table is the name of the ruleset in the switch's namespace.
const table = "bridge kage"

// rules is the whole ruleset for n nodes besides the guest, which one
// transaction puts in the place of the one before. Frames on an established
// connection meet it like any other.
func (f faults) rules(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s\ndelete table %s\ntable %s {\n", table, table, table)
	b.WriteString("\tchain forward {\n\t\ttype filter hook forward priority 0; policy accept;\n")
	rule := func(format string, args ...any) { fmt.Fprintf(&b, "\t\t"+format+" drop\n", args...) }
	for i := range n + 1 {
		for _, direction := range []string{"iifname", "oifname"} {
			at := direction + ports(i) + " "
			if f.hole[i] {
				rule("%s", at)
			}
			switch pct := f.loss[i]; {
			case pct >= 100:
				rule("%s", at)
			case pct > 0:
				rule("%snumgen random mod 10000 < %d", at, int(pct*100))
			}
			if f.noUDP[i] {
				rule("%smeta l4proto udp", at)
			}
			if f.noMulticast[i] {
				rule("%sip daddr 224.0.0.0/4", at)
				rule("%sip6 daddr ff02::fb", at)
			}
		}
		for j := range n + 1 {
			if i != j && (f.cut[[2]int{i, j}] || f.sides[i] != f.sides[j]) {
				rule("iifname%s oifname%s", ports(i), ports(j))
			}
		}
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// ports matches node i's port of the bridge, delayed or not.
func ports(i int) string { return fmt.Sprintf(" { %q, %q }", port(i), tapPort(i)) }

// change applies f to the state of the switch.
func (l *Lab) change(f func(*faults)) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.faults.clone()
	f(&next)
	if err := l.tools.nft(l.sw.name, next.rules(l.plan.hosts)); err != nil {
		l.t.Fatal(err)
	}
	l.faults = next
}

// LinkDown pulls node i's cable: the host sees that the carrier is gone.
func (l *Lab) LinkDown(i int) { l.setLink(i, "down") }

// LinkUp puts the cable back.
func (l *Lab) LinkUp(i int) { l.setLink(i, "up") }

func (l *Lab) setLink(i int, state string) {
	l.t.Helper()
	l.Node(i)
	if err := l.tools.ip("-n", l.sw.name, "link", "set", port(i), state); err != nil {
		l.t.Fatal(err)
	}
}

// BlackHole loses every frame from and to node i. The host sees a healthy
// cable.
func (l *Lab) BlackHole(i int) {
	l.t.Helper()
	l.Node(i)
	l.change(func(f *faults) { f.hole[i] = true })
}

// Cut loses what i and j send each other. Everyone else still reaches both.
func (l *Lab) Cut(i, j int) {
	l.t.Helper()
	l.change(func(f *faults) { f.cut[[2]int{l.Node(i).index, l.Node(j).index}], f.cut[[2]int{j, i}] = true, true })
}

// CutOneWay loses what from sends to to; the other direction works. Between
// hosts that have not talked before, neither works, as an answer is needed to
// learn an address.
func (l *Lab) CutOneWay(from, to int) {
	l.t.Helper()
	l.change(func(f *faults) { f.cut[[2]int{l.Node(from).index, l.Node(to).index}] = true })
}

// Split parts the LAN: each group reaches itself alone, and the nodes that are
// not named, the guest among them, are one more group. It replaces an earlier
// split; Split() without groups ends it.
func (l *Lab) Split(groups ...[]int) {
	l.t.Helper()
	l.change(func(f *faults) {
		clear(f.sides)
		for side, group := range groups {
			for _, i := range group {
				f.sides[l.Node(i).index] = side + 1
			}
		}
	})
}

// BlockUDP loses node i's UDP, as a firewall that lets only TCP through.
func (l *Lab) BlockUDP(i int) {
	l.t.Helper()
	l.change(func(f *faults) { f.noUDP[l.Node(i).index] = true })
}

// NoMulticast loses multicast from and to node i, mDNS among it, as a guest
// Wi-Fi does. Neighbour discovery still works.
func (l *Lab) NoMulticast(i int) {
	l.t.Helper()
	l.change(func(f *faults) { f.noMulticast[l.Node(i).index] = true })
}

// Loss loses this share, in percent with two decimals, of the frames from node
// i and, apart from those, of the frames to it. 0 ends it.
func (l *Lab) Loss(i int, percent float64) {
	l.t.Helper()
	l.change(func(f *faults) { f.loss[l.Node(i).index] = percent })
}

// MTU sets the size of packets that node i's port of the switch takes; larger
// ones vanish without a word, as on a path whose MTU nobody tells. The host's
// own is 1500. [Lab.Heal] does not undo it.
func (l *Lab) MTU(i, bytes int) {
	l.t.Helper()
	l.Node(i)
	if err := l.tools.ip("-n", l.sw.name, "link", "set", port(i), "mtu", strconv.Itoa(bytes)); err != nil {
		l.t.Fatal(err)
	}
}

// Heal ends every fault of these nodes but a split, or, without arguments,
// everything, splits and delays included. Cables are put back.
func (l *Lab) Heal(nodes ...int) {
	l.t.Helper()
	everything := len(nodes) == 0
	if everything {
		for i := range l.nodes {
			nodes = append(nodes, i)
		}
	}
	l.change(func(f *faults) {
		for _, i := range nodes {
			*f = f.without(i)
		}
		if everything {
			clear(f.sides)
		}
	})
	for _, i := range slices.Compact(nodes) {
		l.Delay(i, 0, 0)
		l.LinkUp(i)
	}
}
