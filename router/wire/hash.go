package wire

import (
	"encoding/binary"
	"math/bits"
)

// Odd 64-bit constants with balanced bits: the fractional parts of the golden
// ratio, of the square roots of 2 and of 3.
const (
	hashA = 0x9e3779b97f4a7c15
	hashB = 0x6a09e667f3bcc909
	hashC = 0xbb67ae8584caa73b
)

// mix folds the 128-bit product of a and b to 64 bits (the step of wyhash and
// mum-hash).
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^hashA, b^hashB)
	return hi ^ lo
}

// hashBytes is a hash of p, equal on every node and in every version of the
// program, since nodes compare such hashes. It reads 16 bytes per multiply:
// image data costs some 0.1 ms per MB. It is no defence against somebody who
// wants two prompts to look alike; all that gains is a worse placement of the
// own requests.
func hashBytes(seed uint64, p []byte) uint64 {
	h := mix(seed, uint64(len(p)))
	for ; len(p) >= 16; p = p[16:] {
		h = mix(h^binary.LittleEndian.Uint64(p), bits.RotateLeft64(h, 32)^binary.LittleEndian.Uint64(p[8:]))
	}
	var last [16]byte
	copy(last[:], p)
	h = mix(h^binary.LittleEndian.Uint64(last[:]), hashC^binary.LittleEndian.Uint64(last[8:]))
	return h ^ h>>29
}
