//go:build unix

package ollamatest

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// openStream sends a request for n tokens on a connection of its own.
func openStream(b testing.TB, addr, path string, n int) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	request := fmt.Sprintf(`{"model":"m","prompt":"hi","messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":%d,"options":{"temperature":0,"num_predict":%d}}`, n, n)
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", path, len(request), request)
	return c
}

// drain reads a stream to its end and returns how many bytes it had.
func drain(c net.Conn) (n int) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 32<<10)
	for {
		if _, err := r.Peek(1); err != nil {
			return n
		}
		k, _ := r.Discard(r.Buffered())
		n += k
	}
}

// BenchmarkToken is the cost of one unpaced token, both ends of the socket
// included.
func BenchmarkToken(b *testing.B) {
	for _, path := range []string{"/api/generate", "/api/chat", "/v1/chat/completions"} {
		b.Run(path, func(b *testing.B) {
			s := New(Config{Models: []Model{{Name: "m", Answer: -1}}, ContextLength: 1 << 30})
			s.catalog.models[parseName("m").key()].ContextLength = 1 << 30
			if err := s.Listen("127.0.0.1:0"); err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.ReportAllocs()
			b.ResetTimer()
			drain(openStream(b, s.Addr().String(), path, b.N))
		})
	}
}

// BenchmarkStreams is the load of a benchmark of something else: many streams
// at 30 tokens a second. The number to look at is cores, the CPU time that all
// of it takes per second, clients included.
func BenchmarkStreams(b *testing.B) {
	for _, streams := range []int{100, 500} {
		b.Run(fmt.Sprint(streams), func(b *testing.B) {
			s := New(Config{Models: []Model{{Name: "m", Decode: 30}}, Parallel: streams})
			if err := s.Listen("127.0.0.1:0"); err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			for b.Loop() {
				before, start := cpu(), time.Now()
				var all sync.WaitGroup
				for range streams {
					all.Go(func() { drain(openStream(b, s.Addr().String(), "/api/generate", 60)) })
				}
				all.Wait()
				took := time.Since(start)
				b.ReportMetric((cpu()-before).Seconds()/took.Seconds(), "cores")
				b.ReportMetric(took.Seconds()/2, "slowdown") // 60 tokens are 2 s
			}
		})
	}
}

// cpu is the CPU time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
