package mesh

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// wsaeaddrinuse is Windows' number for a port in use; no other system has an
// error of that number.
const wsaeaddrinuse = syscall.Errno(10048)

// bind opens the gossip port for TCP and UDP. An invalid or unspecified
// address means all interfaces, IPv6 too where the system has it. Port 0 takes
// one that is free for both.
func bind(addr netip.AddrPort) (*net.TCPListener, *net.UDPConn, error) {
	tries := 1
	if addr.Port() == 0 {
		tries = 32 // the kernel's choice for TCP may be taken for UDP
	}
	var last error
	for range tries {
		tcp, udp, err := bindOnce(addr)
		if err == nil {
			return tcp, udp, nil
		}
		if last = err; !errors.Is(err, ErrPortInUse) {
			break
		}
	}
	return nil, nil, last
}

func bindOnce(addr netip.AddrPort) (*net.TCPListener, *net.UDPConn, error) {
	var ip net.IP // nil: all interfaces
	if a := addr.Addr(); a.IsValid() && !a.IsUnspecified() {
		ip = a.AsSlice()
	}
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: ip, Port: int(addr.Port()), Zone: addr.Addr().Zone()})
	if err != nil {
		return nil, nil, bindError("tcp", addr, err)
	}
	port := tcp.Addr().(*net.TCPAddr).Port
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: ip, Port: port, Zone: addr.Addr().Zone()})
	if err != nil {
		_ = tcp.Close()
		return nil, nil, bindError("udp", netip.AddrPortFrom(addr.Addr(), uint16(port)), err) //nolint:gosec // a port that was bound
	}
	// A burst of beacons from hundreds of nodes must not be dropped by a small
	// default; systems cap the value, and a smaller one only loses reports.
	for size := 2 << 20; size >= 128<<10 && udp.SetReadBuffer(size) != nil; {
		size /= 2
	}
	return tcp, udp, nil
}

func bindError(network string, addr netip.AddrPort, err error) error {
	if !addr.Addr().IsValid() {
		addr = netip.AddrPortFrom(netip.IPv6Unspecified(), addr.Port())
	}
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, wsaeaddrinuse) {
		return &PortInUseError{Network: network, Addr: addr, Err: err}
	}
	return fmt.Errorf("mesh: listen on %s %s: %w", network, addr, err)
}
