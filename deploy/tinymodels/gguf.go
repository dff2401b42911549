package tinymodels

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// GGUF v3 value and tensor types, and its alignment, as in the format's
// specification (ggml docs/gguf.md).
const (
	ggufVersion = 3
	ggufAlign   = 32

	typeUint32  = uint32(4)
	typeInt32   = uint32(5)
	typeFloat32 = uint32(6)
	typeBool    = uint32(7)
	typeString  = uint32(8)
	typeArray   = uint32(9)

	tensorF32 = uint32(0)
	tensorF16 = uint32(1)
)

// entry is one metadata pair. The value's Go type decides its GGUF type:
// uint32, float32, bool, string, []string or []int32.
type entry struct {
	key   string
	value any
}

// weight is one number of a tensor. It is called once for every element, row
// by row, so a weight may draw from a random source.
type weight func(row, col int) float64

// tensor is a matrix stored as F16, or a vector (rows 0) stored as F32.
type tensor struct {
	name string
	cols int // row length: GGUF's first dimension
	rows int
	fill weight
}

func (t tensor) bytes() int {
	if t.rows == 0 {
		return 4 * t.cols
	}
	return 2 * t.cols * t.rows
}

// writeGGUF writes one model file. Tensors follow each other without gaps,
// which the alignment allows because every dimension is a multiple of 16.
func writeGGUF(w io.Writer, meta []entry, tensors []tensor) error {
	head, err := header(meta, tensors)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<16)
	_, _ = out.Write(head) // a bufio.Writer keeps its first error for Flush
	for _, t := range tensors {
		t.write(out)
	}
	return out.Flush()
}

func (t tensor) write(out *bufio.Writer) {
	var b [4]byte
	for r := range max(t.rows, 1) {
		for c := range t.cols {
			v := float32(t.fill(r, c))
			if t.rows == 0 {
				binary.LittleEndian.PutUint32(b[:], math.Float32bits(v))
				_, _ = out.Write(b[:4])
				continue
			}
			binary.LittleEndian.PutUint16(b[:], half(v))
			_, _ = out.Write(b[:2])
		}
	}
}

// header is everything before the tensor data, padded to the alignment.
func header(meta []entry, tensors []tensor) ([]byte, error) {
	h := bytes.NewBufferString("GGUF")
	put(h, uint32(ggufVersion), uint64(len(tensors)), uint64(len(meta)))
	for _, e := range meta {
		if err := putEntry(h, e); err != nil {
			return nil, err
		}
	}
	offset := 0
	for _, t := range tensors {
		if t.rows == 0 {
			put(h, t.name, uint32(1), uint64(t.cols), tensorF32, uint64(offset))
		} else {
			put(h, t.name, uint32(2), uint64(t.cols), uint64(t.rows), tensorF16, uint64(offset))
		}
		offset += t.bytes()
	}
	if rest := h.Len() % ggufAlign; rest != 0 {
		h.Write(make([]byte, ggufAlign-rest))
	}
	return h.Bytes(), nil
}

func putEntry(h *bytes.Buffer, e entry) error {
	put(h, e.key)
	switch v := e.value.(type) {
	case uint32:
		put(h, typeUint32, v)
	case float32:
		put(h, typeFloat32, v)
	case bool:
		put(h, typeBool, v)
	case string:
		put(h, typeString, v)
	case []string:
		put(h, typeArray, typeString, uint64(len(v)))
		for _, s := range v {
			put(h, s)
		}
	case []int32:
		put(h, typeArray, typeInt32, uint64(len(v)), v)
	default:
		return fmt.Errorf("tinymodels: metadata %s: no GGUF type for %T", e.key, e.value)
	}
	return nil
}

// put appends values in little endian, strings with their length before them.
// A bytes.Buffer cannot fail, and every caller passes fixed-size values.
func put(h *bytes.Buffer, values ...any) {
	for _, v := range values {
		if s, ok := v.(string); ok {
			_ = binary.Write(h, binary.LittleEndian, uint64(len(s)))
			h.WriteString(s)
			continue
		}
		_ = binary.Write(h, binary.LittleEndian, v)
	}
}

// half rounds towards zero to IEEE 754 binary16. Numbers too small for it
// become zero; weights are far below its largest.
func half(f float32) uint16 {
	b := math.Float32bits(f)
	sign, exp := uint16(b>>16&0x8000), int(b>>23&0xff)-112
	if exp <= 0 {
		return sign
	}
	return sign | uint16(uint32(exp)<<10|b>>13&0x3ff)
}
