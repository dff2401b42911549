package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grandcat/zeroconf"
)

// domain is the only one mDNS has. Without the trailing dot: with it the
// library appends it to host names twice.
const domain = "local"

// Pace of browsing.
const (
	firstWindow = 1250 * time.Millisecond // RFC 6762, section 5.2: at least 1 s to the second query, then doubling; spread takes up to a fifth off
	maxWindow   = time.Minute             // for a home's worth of peers; how late an unannounced peer is found
	maxPeriod   = 5 * time.Minute         // for any number
	perPeer     = 4 * time.Second         // period per peer: n queriers get n answers each, so traffic grows as n squared
	noPause     = 16                      // peers up to which there is no pause between windows
	listenLong  = 2 * time.Second         // window when there is: the library repeats its query after 2 to 6 s
	floodPause  = 30 * time.Second        // deafness after a flood
	maxEntries  = 512                     // distinct instances per window: the library keeps each until the window ends
)

// window plans the browse number round (from 0) when the one before saw peers:
// how long to listen, then how long to pause. Each window sends a query at its
// start. Windows are needed because the library reports an instance once per
// browse and never again, whatever it announces later. Small meshes listen all
// the time, because on networks that pass multicast one way only, the other
// side's announcements are all there is to hear.
func window(round, peers int) (listen, pause time.Duration) {
	most := min(max(maxWindow, time.Duration(peers)*perPeer), maxPeriod)
	period := most
	if round < 10 {
		period = min(firstWindow<<round, most)
	}
	if peers <= noPause || period <= listenLong {
		return period, 0
	}
	return listenLong, period - listenLong
}

// browse listens on ls for d, or until ctx ends, and passes on each instance of
// service that the library reports. It returns after the library has let go of
// its channels, and tells whether it broke off because of a flood.
//
// Each IP family has a resolver of its own: one for both fails altogether where
// IPv6 is off, and leaks its IPv4 socket then.
func browse(ctx context.Context, service string, ls []link, d time.Duration, entry func(*zeroconf.ServiceEntry)) (flooded bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var (
		wg     sync.WaitGroup
		seen   atomic.Int64
		opened int
		first  error
	)
	for _, family := range []zeroconf.IPType{zeroconf.IPv4, zeroconf.IPv6} {
		ifs := interfaces(ls, family == zeroconf.IPv6)
		if len(ifs) == 0 {
			continue // an empty list would mean every interface
		}
		entries := make(chan *zeroconf.ServiceEntry, 32)
		if err := open(ctx, service, family, ifs, entries); err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		opened++
		wg.Go(func() {
			// To the end, even after a flood: the library blocks for
			// ever on a channel that nobody reads, and leaks its sockets.
			for e := range entries {
				if seen.Add(1) > maxEntries {
					cancel()
					continue
				}
				entry(e)
			}
		})
	}
	wg.Wait()
	if opened == 0 {
		return false, first
	}
	return seen.Load() > maxEntries, nil
}

// open starts one browse, which ends with ctx by closing entries. A resolver
// that never browses could never be closed, so the two are not separated.
func open(ctx context.Context, service string, family zeroconf.IPType, ifs []net.Interface, entries chan *zeroconf.ServiceEntry) error {
	r, err := zeroconf.NewResolver(zeroconf.SelectIPTraffic(family), zeroconf.SelectIfaces(ifs))
	if err != nil {
		return fmt.Errorf("discovery: mdns browse: %w", err)
	}
	if err := r.Browse(ctx, service, domain, entries); err != nil {
		for range entries { // the library closes it, from another goroutine
		}
		return fmt.Errorf("discovery: mdns browse: %w", err)
	}
	return nil
}

// addresses collects what an entry says.
func addresses(e *zeroconf.ServiceEntry) []netip.Addr {
	var ips []netip.Addr
	for _, list := range [][]net.IP{e.AddrIPv4, e.AddrIPv6} {
		for _, ip := range list[:min(len(list), maxAdvertise)] {
			if a, ok := netip.AddrFromSlice(ip); ok {
				ips = append(ips, a)
			}
		}
	}
	return ips
}
