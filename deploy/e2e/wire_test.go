//go:build linux

package e2e

import (
	"context"
	be "encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/proc"
)

// sniffInto, when set, makes the test binary a sniffer: it writes every frame
// that it sees into the file of that name, as pcap, which tshark reads, too.
const sniffInto = "KAGE_E2E_SNIFF"

func init() {
	if path := os.Getenv(sniffInto); path != "" {
		sniff(path)
	}
}

// sniff reads all frames of the namespace it runs in until it is killed.
func sniff(path string) {
	const all = 0x0300 // ETH_P_ALL in network byte order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, all)
	if err != nil {
		panic(err)
	}
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<20)
	f, err := os.Create(path)
	if err != nil {
		panic(err)
	}
	// https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html: magic,
	// version 2.4, two zeros, the longest frame, Ethernet.
	head := be.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	head = append(head, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	head = be.LittleEndian.AppendUint32(head, maxFrame)
	head = be.LittleEndian.AppendUint32(head, 1)
	if _, err := f.Write(head); err != nil {
		panic(err)
	}
	buf := make([]byte, recordHead+maxFrame)
	for {
		n, from, err := syscall.Recvfrom(fd, buf[recordHead:], 0)
		if err != nil {
			continue
		}
		if ll, ok := from.(*syscall.SockaddrLinklayer); ok && ll.Hatype == syscall.ARPHRD_LOOPBACK {
			continue // a host's own loopback is no link
		}
		now := time.Now()
		for i, v := range []int64{now.Unix(), int64(now.Nanosecond() / 1000), int64(n), int64(n)} {
			be.LittleEndian.PutUint32(buf[4*i:], uint32(v))
		}
		if _, err := f.Write(buf[:recordHead+n]); err != nil {
			panic(err)
		}
	}
}

const (
	fileHead   = 24
	recordHead = 16
	maxFrame   = 128 << 10
)

// capture is a running sniffer on a host.
type capture struct {
	t    testing.TB
	path string
	proc *proc.Proc
}

// sniff starts a sniffer on the host's links and waits until it hears.
func (h *host) sniff() *capture {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	c := &capture{t: h.t, path: filepath.Join(h.t.TempDir(), "frames")}
	cmd := h.Command(context.Background(), self)
	cmd.Env = append(os.Environ(), sniffInto+"="+c.path)
	c.proc = h.StartCommand(cmd)
	await(h.t, patience, "a sniffer that hears", func() bool {
		_, err := os.Stat(c.path)
		return err == nil
	})
	return c
}

// segment is one datagram or TCP segment of the capture.
type segment struct {
	tcp      bool
	src, dst netip.AddrPort
	seq      uint32
	data     []byte
}

// end stops the sniffer and returns all bytes on the link, and the IPv4
// segments among them.
func (c *capture) end() (raw []byte, segments []segment) {
	c.t.Helper()
	c.proc.Kill()
	data, err := os.ReadFile(c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	for rest := data[min(fileHead, len(data)):]; len(rest) > recordHead; {
		size := int(be.LittleEndian.Uint32(rest[8:]))
		if size > len(rest)-recordHead {
			break // killed in the middle of it
		}
		frame := rest[recordHead : recordHead+size]
		rest = rest[recordHead+size:]
		raw = append(raw, frame...)
		if s, ok := parseFrame(frame); ok {
			segments = append(segments, s)
		}
	}
	return raw, segments
}

// protocols is what tshark makes of the capture, where it is installed.
func (c *capture) protocols() string {
	out, err := exec.CommandContext(c.t.Context(), "tshark", "-n", "-r", c.path, "-q", "-z", "io,phs").CombinedOutput()
	if err != nil {
		return "no word from tshark: " + err.Error()
	}
	return string(out)
}

func parseFrame(f []byte) (s segment, ok bool) {
	if len(f) < 14+20 || be.BigEndian.Uint16(f[12:]) != 0x0800 {
		return s, false
	}
	ip := f[14:]
	head, total := int(ip[0]&15)*4, int(be.BigEndian.Uint16(ip[2:]))
	if total > len(ip) || head > total {
		return s, false
	}
	body := ip[head:total]
	addr := func(b []byte, port uint16) netip.AddrPort {
		a, _ := netip.AddrFromSlice(b)
		return netip.AddrPortFrom(a, port)
	}
	if len(body) < 8 {
		return s, false
	}
	s.src = addr(ip[12:16], be.BigEndian.Uint16(body))
	s.dst = addr(ip[16:20], be.BigEndian.Uint16(body[2:]))
	switch ip[9] {
	case 17:
		s.data = body[8:]
		return s, true
	case 6:
		if len(body) < 20 || int(body[12]>>4)*4 > len(body) {
			return s, false
		}
		s.tcp, s.seq, s.data = true, be.BigEndian.Uint32(body[4:]), body[int(body[12]>>4)*4:]
		return s, true
	}
	return s, false
}
