package mesh

import (
	"net/netip"
	"testing"
	"time"
)

// A stranger's datagrams get no answer, and a member's none that is larger than
// what it sent, nor more of them than were agreed on.
func FuzzEcho(f *testing.F) {
	agreed, other := token{1, 2, 3}, token{9}
	for _, size := range EchoSizes {
		f.Add(echo(echoAsk, agreed, size))
		f.Add(echo(echoAnswer, agreed, size))
		f.Add(echo(echoAsk, other, size))
	}
	f.Add([]byte{echoVersion})
	f.Add([]byte{})
	from := netip.MustParseAddrPort("192.0.2.7:11437")
	f.Fuzz(func(t *testing.T, data []byte) {
		now, answers := time.Now(), 0
		e := newEchoes(func(b []byte, to netip.AddrPort) error {
			if answers++; len(b) != len(data) || to != from {
				t.Errorf("%d bytes to %v for %d from %v", len(b), to, len(data), from)
			}
			return nil
		})
		e.expect(agreed, false, now)
		for range 2 * echoLimit {
			e.take(data, from, now)
		}
		member := len(data) >= echoHead && data[0] == echoVersion && data[1] == echoAsk && token(data[2:echoHead]) == agreed
		if want := map[bool]int{true: echoLimit}[member]; answers != want {
			t.Errorf("%d answers, want %d", answers, want)
		}
		if sizes, _ := e.heard(agreed); len(sizes) > 1 {
			t.Errorf("sizes %v of one", sizes)
		}
	})
}
