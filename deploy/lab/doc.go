// Package lab is a throwaway LAN of network namespaces on one Linux machine:
// n hosts with their own addresses, ports and loopback on one bridge, where
// multicast works as on a home network, and a hand on every cable. Tests start
// real programs on the hosts and talk to them as a client on that host would.
//
// The invariant: a lab owns only what it made. Names carry the process id, so
// labs of several test binaries stand side by side; the end of the test ends
// the programs and removes the namespaces, and what a killed test binary left
// behind is removed by the next lab.
//
//	l := lab.Up(t, 3)
//	p := l.Node(1).Start("kage-mesh", "join")
//	resp, err := l.Node(3).HTTPClient().Get("http://" + l.Node(1).IP().String() + ":11435/health")
//	l.BlackHole(1)        // the cable is in, nothing passes
//	l.Cut(2, 3)           // these two do not reach each other
//	l.Loss(2, 10)         // a tenth of its packets is lost
//	l.Heal()              // everything works again
//	p.Kill()
//
// Hosts are numbered from 1. Node 0 is a guest on the same LAN, for a client
// that is no member. Addresses are 10.77.x.y/16 and fd77::z/64.
//
// Up needs root, ip (iproute2) and nft (nftables), on Linux. Without them it
// skips the test with one line that says so, and with CI=true it fails. With
// -short it skips. On other systems the package is empty.
//
// Latency needs no tc netem: [Lab.Delay] carries a host's frames through user
// space. For faults of one connection see package relay.
package lab
