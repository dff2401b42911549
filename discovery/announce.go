package discovery

import (
	"fmt"
	"net"
	"time"

	"github.com/grandcat/zeroconf"
)

// announcer keeps one zeroconf server on the air.
type announcer struct {
	server *zeroconf.Server
	since  time.Time
}

// settleServer is how old a zeroconf server must be before it may be shut down.
// Its receivers add themselves to a WaitGroup from their own goroutines, and
// Shutdown waits for that group: shut down within microseconds of its start it
// races, and panics with "WaitGroup is reused" (seen within 300 tries). A
// quarter of a second is a thousand times what those goroutines need to start.
const settleServer = 250 * time.Millisecond

// announce registers r on ls and answers queries until stop.
//
// RegisterProxy and not Register: the latter announces this machine's own host
// name, with a cache-flush bit, which takes that name from the system's own
// responder (Avahi then renames the machine to name-2) and merges two machines
// called "ubuntu". Ours is a name made of the node id. Addresses are passed in
// because those that the library looks up itself depend on the interface a
// query came in by, which it cannot see on Windows.
func announce(r record, service string, ls []link, addrs []string) (*announcer, error) {
	var ifs []net.Interface
	for _, l := range ls {
		ifs = append(ifs, l.ifi)
	}
	server, err := zeroconf.RegisterProxy(label(r.id), service, domain, r.port, label("kage-"+r.id), addrs, r.txt(), ifs)
	if err != nil {
		return nil, fmt.Errorf("discovery: mdns announce: %w", err)
	}
	return &announcer{server: server, since: time.Now()}, nil
}

// stop says goodbye and closes the sockets. The library's announcing goroutine
// may sleep on for up to 3.5 s after the start; it touches nothing any more.
func (a *announcer) stop() {
	time.Sleep(settleServer - time.Since(a.since)) //nolint:forbidigo // zeroconf tells of no event to wait for
	// Should the WaitGroup panic after all, then it does so at the end of
	// Shutdown, with everything closed.
	defer func() { _ = recover() }()
	a.server.Shutdown()
}
