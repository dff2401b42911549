//go:build linux

package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// frameQueue is how many frames one direction holds; more are lost, as in
	// a switch. tc netem holds 1000.
	frameQueue = 4096

	// maxFrame is the largest frame of a veth with segmentation offload, and
	// the virtio-net header before it.
	maxFrame = 1<<16 + 128
)

// Delay adds a delay, uniform in delay ± jitter, to every frame from and to
// node i: a round trip takes two delays longer. Order is kept. Two zeros end
// it. The change of the path may cost a frame or two.
func (l *Lab) Delay(i int, delay, jitter time.Duration) {
	l.t.Helper()
	l.Node(i)
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.delays[i]
	switch {
	case delay == 0 && jitter == 0 && line == nil:
	case delay == 0 && jitter == 0:
		delete(l.delays, i)
		line.close()
		if err := l.tools.ip("-n", l.sw.name, "link", "set", port(i), "master", bridge); err != nil {
			l.t.Fatal(err)
		}
	case line != nil:
		line.set(delay, jitter)
	default:
		line, err := l.startDelay(i, delay, jitter)
		if err != nil {
			l.t.Fatal(err)
		}
		l.delays[i] = line
	}
}

// startDelay takes the node's port from the bridge, puts a TAP in its place
// and carries frames between the two.
func (l *Lab) startDelay(i int, delay, jitter time.Duration) (*frameLine, error) {
	line := &frameLine{done: make(chan struct{})}
	line.set(delay, jitter)
	err := l.sw.inside(func() (err error) {
		if line.tap, err = openTap(tapPort(i)); err != nil {
			return err
		}
		line.port, err = openPort(port(i))
		return err
	})
	if err == nil {
		err = l.tools.batch(l.sw.name, []string{
			"link set " + port(i) + " nomaster",
			"link set " + tapPort(i) + " master " + bridge + " up",
		})
	}
	if err != nil {
		line.close()
		return nil, fmt.Errorf("lab: delay node %d: %w", i, err)
	}
	line.carry(line.port, line.tap)
	line.carry(line.tap, line.port)
	return line, nil
}

// frameLine carries the frames of one port through user space. Frames keep
// their virtio-net headers, so that offloaded checksums and segmentation
// survive.
type frameLine struct {
	port, tap     *os.File
	delay, jitter atomic.Int64 // nanoseconds
	done          chan struct{}
	running       sync.WaitGroup
}

type frame struct {
	due   time.Time
	bytes []byte
}

func (f *frameLine) set(delay, jitter time.Duration) {
	f.delay.Store(int64(delay))
	f.jitter.Store(int64(jitter))
}

func (f *frameLine) close() {
	close(f.done)
	for _, file := range []*os.File{f.port, f.tap} {
		if file != nil {
			_ = file.Close()
		}
	}
	f.running.Wait()
}

func (f *frameLine) carry(from, to *os.File) {
	queue := make(chan frame, frameQueue)
	f.running.Go(func() {
		defer close(queue)
		buf := make([]byte, maxFrame)
		for {
			n, err := from.Read(buf)
			switch {
			case errors.Is(err, unix.ENETDOWN): // the cable is out
				continue
			case err != nil:
				return
			}
			due := time.Now().Add(time.Duration(f.delay.Load() + int64((2*rand.Float64()-1)*float64(f.jitter.Load()))))
			select {
			case queue <- frame{due, append([]byte(nil), buf[:n]...)}:
			default:
			}
		}
	})
	f.running.Go(func() {
		for frame := range queue {
			select {
			case <-time.After(time.Until(frame.due)):
				_, _ = to.Write(frame.bytes) // a port that is down loses frames
			case <-f.done:
				return
			}
		}
	})
}

// openTap makes a TAP interface in the thread's namespace. It lives as long as
// the file.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openPort opens a raw socket on an interface of the thread's namespace that
// sees every frame that comes in and none that goes out.
func openPort(name string) (*os.File, error) {
	const allProtocols = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	index, err := interfaceIndex(fd, name)
	if err == nil {
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20),
			unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
				&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allProtocols, Ifindex: index}))
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("packet socket on %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func interfaceIndex(fd int, name string) (int, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, err
	}
	return int(req.Uint32()), nil
}
