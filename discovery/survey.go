package discovery

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grandcat/zeroconf"
)

// Heard is a node that answers on the local network.
type Heard struct {
	ID       string   `json:"id"`
	Cluster  string   `json:"cluster"` // name or key tag, as it announces it
	Protocol int      `json:"protocol"`
	Addrs    []string `json:"addresses"` // of its gossip port, likeliest first
}

// ErrNoLink says that no interface of this machine carries multicast.
var ErrNoLink = errors.New("discovery: no network interface that multicast can use")

// Survey asks the local network once for nodes of every cluster and protocol,
// this machine's own among them, and listens for d. It announces nothing. Links
// are the names of the interfaces that it used.
func Survey(ctx context.Context, d time.Duration) (heard []Heard, links []string, err error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, nil, err
	}
	ls := usable(ifs, func(i net.Interface) ([]net.Addr, error) { return i.Addrs() })
	if len(ls) == 0 {
		return nil, nil, ErrNoLink
	}
	for _, l := range ls {
		links = append(links, l.ifi.Name)
	}
	var mu sync.Mutex // guards heard: each IP family has a goroutine
	_, err = browse(ctx, DefaultService, ls, d, func(e *zeroconf.ServiceEntry) {
		r, err := parseTXT(e.Text)
		if err != nil {
			return
		}
		addrs := candidates(ls, addresses(e), r.port, 0)
		mu.Lock()
		defer mu.Unlock()
		i := slices.IndexFunc(heard, func(h Heard) bool { return h.ID == r.id })
		if i < 0 {
			i, heard = len(heard), append(heard, Heard{ID: r.id, Cluster: r.cluster, Protocol: r.protocol})
		}
		for _, a := range addrs {
			if !slices.Contains(heard[i].Addrs, a) {
				heard[i].Addrs = append(heard[i].Addrs, a)
			}
		}
	})
	slices.SortFunc(heard, func(a, b Heard) int { return strings.Compare(a.ID, b.ID) })
	return heard, links, err
}
