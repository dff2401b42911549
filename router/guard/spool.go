package guard

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"io"
	"os"
)

// spool takes a body that is still coming: the first inMemory bytes in memory,
// the rest in a file. So a body that turns out to be too large, never ends or
// comes slowly costs little memory whatever it says of itself; only one that is
// whole is taken into memory, in one piece of its size.
//
// The file holds the output of a cipher whose key is only in memory and used
// once, and it has no name where the system allows that: no prompt gets onto a
// disk, and nothing is left there.
type spool struct {
	hold   *hold
	memory []byte
	file   *os.File // nil while the body fits into memory
	filed  int64    // bytes in it
	block  cipher.Block
	stream cipher.Stream
	buf    []byte
	failed bool // there is no room for a file: all stays in memory
}

const (
	inMemory  = 1 << 20
	spoolStep = 64 << 10
)

// Write implements io.Writer. errMemory: bodies hold all that they may.
func (s *spool) Write(p []byte) (int, error) {
	if !s.hold.take(int64(len(p))) {
		return 0, errMemory
	}
	if s.file == nil && !s.failed && len(s.memory)+len(p) > inMemory {
		s.failed = s.open() != nil
	}
	rest := p
	for s.file != nil && len(rest) > 0 {
		n := min(len(rest), len(s.buf))
		s.stream.XORKeyStream(s.buf[:n], rest[:n])
		if _, err := s.file.Write(s.buf[:n]); err != nil {
			// The disk is full. What is there can still be read.
			if s.memory, err = s.whole(); err != nil {
				return 0, err
			}
			s.close()
			s.failed = true
			break
		}
		s.filed += int64(n)
		rest = rest[n:]
	}
	if s.file == nil {
		s.memory = append(s.memory, rest...)
	}
	return len(p), nil
}

// open makes the file and its cipher.
func (s *spool) open() error {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(s.hold.spool, "kage-mesh-body-*")
	if err != nil {
		return err
	}
	_ = os.Remove(f.Name()) // Windows can only when it is closed
	s.file, s.block, s.stream, s.buf = f, block, counter(block), make([]byte, spoolStep)
	return nil
}

// counter starts the cipher; its key is used for one file, so it may begin at
// the same place in each.
func counter(b cipher.Block) cipher.Stream { return cipher.NewCTR(b, make([]byte, aes.BlockSize)) } //nolint:gosec // each file has a key of its own

// whole is the body so far, in memory.
func (s *spool) whole() ([]byte, error) {
	if s.file == nil {
		return s.memory, nil
	}
	out := make([]byte, int64(len(s.memory))+s.filed)
	filed := out[copy(out, s.memory):]
	s.memory = nil
	if _, err := io.ReadFull(io.NewSectionReader(s.file, 0, s.filed), filed); err != nil {
		return nil, err
	}
	counter(s.block).XORKeyStream(filed, filed)
	return out, nil
}

// close ends the file, if there is one.
func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close()
		_ = os.Remove(s.file.Name())
		s.file = nil
	}
}
