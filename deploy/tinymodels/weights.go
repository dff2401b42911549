package tinymodels

import (
	"fmt"
	"io"
	"math"
	"math/rand"
)

const (
	contextLength = 4096
	headLength    = 16 // dimensions per attention head

	// sharpness spreads the logits: with 4 the best word is well ahead, so
	// greedy decoding does not depend on rounding.
	sharpness = 4

	// forcedLogit pushes the script's tokens far above every word, and bytes
	// and control tokens as far below.
	forcedLogit = 40
)

// write writes the model file of this shape.
//
// Embedding dimension 0 is a constant that no block writes, and the next ones
// carry "a forced successor follows" from the embedding straight to the
// output. Everything else is noise from one seeded source, drawn in the order
// of the file.
func (s shape) write(w io.Writer) error {
	if err := s.check(); err != nil {
		return err
	}
	v := newVocab(s)
	return writeGGUF(w, s.meta(v), s.tensors(v))
}

func (s shape) meta(v vocab) []entry {
	meta := []entry{
		{"general.architecture", "llama"},
		{"general.name", "tinygguf"},
		{"general.file_type", uint32(1)}, // mostly F16
		{"llama.context_length", uint32(contextLength)},
		{"llama.embedding_length", uint32(s.dim)},
		{"llama.block_count", uint32(s.layers)},
		{"llama.feed_forward_length", uint32(s.ff)},
		{"llama.attention.head_count", uint32(s.dim / headLength)},
		{"llama.attention.head_count_kv", uint32(s.dim / headLength)},
		{"llama.attention.layer_norm_rms_epsilon", float32(1e-5)},
		{"llama.rope.dimension_count", uint32(headLength)},
		{"tokenizer.ggml.model", "gpt2"},
		{"tokenizer.ggml.pre", "llama-bpe"},
		{"tokenizer.ggml.bos_token_id", uint32(v.index["<|bos|>"])},
		{"tokenizer.ggml.eos_token_id", uint32(v.index["<|eos|>"])},
		{"tokenizer.ggml.add_bos_token", true},
	}
	meta = append(meta, s.extra...)
	return append(meta, v.meta()...)
}

func (s shape) tensors(v vocab) []tensor {
	// math/rand and not v2: its stream for a seed is promised not to change.
	rng := rand.New(rand.NewSource(s.seed))
	keep := len(v.forced) // dimensions that no block may write
	noise := func(scale float64, in int) weight {
		scale /= math.Sqrt(float64(in))
		return func(int, int) float64 { return rng.NormFloat64() * scale }
	}
	guarded := func(f weight) weight {
		return func(r, c int) float64 {
			if x := f(r, c); r >= keep {
				return x
			}
			return 0
		}
	}
	one := func(int, int) float64 { return 1 }

	d, words := s.dim, len(v.tokens)
	ts := []tensor{{"token_embd.weight", d, words, s.embedding(v, rng)}}
	for i := range s.layers {
		p := fmt.Sprintf("blk.%d.", i)
		ts = append(ts,
			tensor{p + "attn_norm.weight", d, 0, one},
			tensor{p + "attn_q.weight", d, d, noise(2, d)},
			tensor{p + "attn_k.weight", d, d, noise(2, d)},
			tensor{p + "attn_v.weight", d, d, noise(1.5, d)},
			tensor{p + "attn_output.weight", d, d, guarded(noise(1.5, d))},
			tensor{p + "ffn_norm.weight", d, 0, one},
			tensor{p + "ffn_gate.weight", d, s.ff, noise(1.5, d)},
			tensor{p + "ffn_up.weight", d, s.ff, noise(1.5, d)},
			tensor{p + "ffn_down.weight", s.ff, d, guarded(noise(1.5, s.ff))})
	}
	return append(ts,
		tensor{"output_norm.weight", d, 0, one},
		tensor{"output.weight", d, words, s.output(v, noise(sharpness, d))})
}

// embedding: row is a token, col a dimension.
func (s shape) embedding(v vocab, rng *rand.Rand) weight {
	keep := len(v.forced)
	return func(r, c int) float64 {
		switch x := rng.NormFloat64(); {
		case c > 0 && c == v.next[r]:
			return 4 * math.Sqrt(float64(s.dim))
		case c == 0:
			return 2
		case c >= keep:
			return x
		}
		return 0
	}
}

// output: row is a token, col a dimension.
func (s shape) output(v vocab, logit weight) weight {
	keep := len(v.forced)
	return func(r, c int) float64 {
		x := logit(r, c)
		switch {
		case c > 0 && c < keep && v.forced[c] == r:
			return forcedLogit
		case c > 0 && c < keep, c == 0 && r >= v.firstWord:
			return 0
		case c == 0:
			return -forcedLogit // bytes, control and script tokens: never by chance
		case r < v.firstWord:
			return x / 5
		}
		return x
	}
}
