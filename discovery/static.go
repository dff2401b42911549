package discovery

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Static is the list of seeds a user named: hosts or host:port, as [ParseAddr]
// reads them. As a [Source] it offers every address that each name resolves to
// and looks the names up again each minute, because a machine in the house gets
// a new address now and then. A name that does not resolve is looked up again
// with a back-off of 1 s to 1 min and meanwhile offered as it stands, so that
// the attempt fails where failures are told to the user.
type Static []string

// Bounds of Static.
const (
	seedAgain = time.Minute // between lookups that succeed; home DHCP leases change by the hour
	maxSeeds  = 64          // names; more are ignored
	seedAddrs = 16          // addresses of one name; a headless Kubernetes service may have many
)

// ParseSeeds checks seeds as given on a command line or in an environment
// variable, each of which may be a list separated by commas or blanks, and
// drops empty and repeated ones. The error joins one line for each bad seed,
// all of which wrap [ErrAddr].
func ParseSeeds(args ...string) (Static, error) {
	var (
		seeds Static
		errs  []error
		seen  = map[string]bool{}
	)
	for _, arg := range args {
		for _, s := range strings.FieldsFunc(arg, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }) {
			host, port, err := ParseAddr(s)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			addr := net.JoinHostPort(host, strconv.Itoa(port))
			if !seen[addr] {
				seen[addr] = true
				seeds = append(seeds, addr)
			}
		}
	}
	return seeds, errors.Join(errs...)
}

// Run offers the seeds until ctx ends. It fails at once, with an error that
// wraps [ErrAddr], on a seed that [ParseSeeds] would refuse.
func (s Static) Run(ctx context.Context, found func(Peer)) error {
	return s.run(ctx, net.DefaultResolver.LookupNetIP, found)
}

type lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

func (s Static) run(ctx context.Context, look lookup, found func(Peer)) error {
	seeds, err := ParseSeeds(s...)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, seed := range seeds[:min(len(seeds), maxSeeds)] {
		host, port, _ := ParseAddr(seed) // ParseSeeds has read it
		wg.Go(func() { offerSeed(ctx, host, port, look, found) })
	}
	wg.Wait()
	return nil
}

// offerSeed offers one seed until ctx ends.
func offerSeed(ctx context.Context, host string, port int, look lookup, found func(Peer)) {
	offer := func(host string) {
		found(Peer{Addr: net.JoinHostPort(host, strconv.Itoa(port)), Source: SourceSeed})
	}
	for failures := 0; ; {
		wait := spread(seedAgain, rand.Float64())
		if ip, err := netip.ParseAddr(host); err == nil {
			offer(ip.String())
		} else if ips, err := look(ctx, "ip", host); err == nil && len(ips) > 0 {
			failures = 0
			for _, ip := range ips[:min(len(ips), seedAddrs)] {
				offer(ip.Unmap().String())
			}
		} else if ctx.Err() == nil {
			failures++
			wait = backoff(failures, time.Second, seedAgain, rand.Float64())
			offer(host)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}
