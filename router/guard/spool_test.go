package guard

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// spooled writes a body in pieces of odd sizes.
func spooled(t testing.TB, s *spool, body []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for len(body) > 0 {
		n := min(len(body), 1+r.IntN(200<<10))
		if took, err := s.Write(body[:n]); took != n || err != nil {
			t.Fatalf("%d of %d bytes, %v", took, n, err)
		}
		body = body[n:]
	}
}

func newSpool(dir string) *spool {
	return &spool{hold: &hold{memory: newMemory(1 << 30), spool: dir}}
}

func TestSpoolGivesBackWhatItTook(t *testing.T) {
	text := make([]byte, 5<<20)
	for i := range text {
		text[i] = byte(i * i >> 7)
	}
	for _, size := range []int{0, 1, inMemory - 1, inMemory, inMemory + 1, 3 << 20, len(text)} {
		s := newSpool(t.TempDir())
		spooled(t, s, text[:size])
		if (s.file != nil) != (size > inMemory) {
			t.Errorf("%d bytes: a file: %v", size, s.file != nil)
		}
		got, err := s.whole()
		if err != nil || !bytes.Equal(got, text[:size]) {
			t.Errorf("%d bytes: %d came back, %v", size, len(got), err)
		}
		s.close()
	}
}

// What is on the disk for a while is no prompt, and has no name.
func TestSpoolFilesTellNothing(t *testing.T) {
	dir := t.TempDir()
	s := newSpool(dir)
	defer s.close()
	spooled(t, s, bytes.Repeat([]byte("prompt-canary "), 3<<20/14))
	raw := make([]byte, s.filed)
	if n, err := s.file.ReadAt(raw, 0); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	if bytes.Contains(raw, []byte("canary")) {
		t.Error("the file holds the prompt")
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && len(names) > 0 {
		t.Errorf("it has a name: %v", names)
	}
}

// Without a disk to use, bodies stay in memory, as far as that goes.
func TestSpoolWithoutADisk(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789"), 300_000)
	s := newSpool(filepath.Join(t.TempDir(), "missing"))
	spooled(t, s, text)
	if got, err := s.whole(); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes, %v", len(got), err)
	}

	if runtime.GOOS != "linux" {
		return
	}
	// A disk that fills up: what is on it is read back.
	s = newSpool(t.TempDir())
	half := len(text) / 2
	spooled(t, s, text[:half])
	full, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd())) // takes no more bytes
	if err != nil {
		t.Fatal(err)
	}
	_ = s.file.Close()
	s.file = full
	spooled(t, s, text[half:])
	if got, err := s.whole(); err != nil || !bytes.Equal(got, text) || s.file != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A body that is refused in the end has cost next to no memory. Not parallel:
// it counts what the process allocates.
func TestSpoolMemory(t *testing.T) {
	piece := make([]byte, 32<<10)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := newSpool(t.TempDir())
	defer s.close()
	for range 64 << 20 / len(piece) {
		if _, err := s.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
		t.Errorf("%d bytes allocated", got)
	}
}

func BenchmarkSpool(b *testing.B) {
	for _, size := range []int{16 << 10, 1 << 20, 8 << 20, 64 << 20} {
		b.Run(byteSize(size), func(b *testing.B) {
			piece := make([]byte, 32<<10)
			dir := b.TempDir()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				s := newSpool(dir)
				for left := size; left > 0; left -= len(piece) {
					if _, err := s.Write(piece[:min(left, len(piece))]); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := s.whole(); err != nil {
					b.Fatal(err)
				}
				s.close()
			}
		})
	}
}

func byteSize(n int) string {
	if n >= 1<<20 {
		return strconv.Itoa(n>>20) + "MiB"
	}
	return strconv.Itoa(n>>10) + "KiB"
}
