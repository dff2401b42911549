package mesh

import (
	"net"
	"sync/atomic"
)

// Traffic is what a node has sent over its gossip port since it started. Bytes
// are those of datagrams and streams, without the headers of IP, UDP and TCP.
type Traffic struct {
	Datagrams uint64 // gossip, probes and load reports
	Bytes     uint64 // of them
	Streamed  uint64 // bytes over TCP: joins and full exchanges
}

// Traffic is what this node has sent so far.
func (m *Mesh) Traffic() Traffic {
	s := &m.transport.sent
	return Traffic{Datagrams: s.datagrams.Load(), Bytes: s.bytes.Load(), Streamed: s.streamed.Load()}
}

// sent counts for Traffic.
type sent struct{ datagrams, bytes, streamed atomic.Uint64 }

func (s *sent) datagram(n int) {
	s.datagrams.Add(1)
	s.bytes.Add(uint64(n)) //nolint:gosec // of a write: not negative
}

// stream counts what is written to c.
func (s *sent) stream(c net.Conn, p []byte) (int, error) {
	n, err := c.Write(p)
	s.streamed.Add(uint64(n)) //nolint:gosec // of a write: not negative
	return n, err
}
