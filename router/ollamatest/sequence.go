package ollamatest

import (
	"hash/fnv"
	"strconv"
	"strings"
)

// An answer is a run of tokens " 1a2b-0 1a2b-1 1a2b-2 ...": a chain, four hex
// digits that stand for everything the text depends on, and the position.
//
// At temperature 0 the chain depends on the weights, the sampling options and
// the prompt without the answer, so a server that is given the prompt and the
// first k tokens goes on with the same chain at position k, as a real model
// does. A sampled answer (temperature above 0) starts its random numbers anew:
// the position goes on, under another chain. Text that was cut inside a token
// is no answer token, and what follows it starts at 0 again, again as with
// real models: tokens that are not spelled the canonical way lead elsewhere.

// appendAnswer appends token n of a chain.
func appendAnswer(b []byte, chain uint16, n int) []byte {
	const hex = "0123456789abcdef"
	b = append(b, ' ', hex[chain>>12], hex[chain>>8&15], hex[chain>>4&15], hex[chain&15], '-')
	return strconv.AppendInt(b, int64(n), 10)
}

// chainOf hashes what an answer depends on.
func chainOf(parts ...string) uint16 {
	h := fnv.New64a()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	sum := h.Sum64()
	return uint16(sum ^ sum>>16 ^ sum>>32 ^ sum>>48)
}

// run is a stretch of consecutive answer tokens at the end of a text.
type run struct {
	start   int // where it begins in the text
	first   int // number of its first token
	next    int // number of the token that would follow; 0 = no run
	chain   uint16
	uniform bool // all tokens have that chain
}

// lastToken reads the answer token that ends s.
func lastToken(s string) (chain uint16, n, start int, ok bool) {
	dash := strings.LastIndexByte(s, '-')
	if dash < 5 {
		return 0, 0, 0, false
	}
	start = dash - 5
	if answerLen(s[start:]) != len(s)-start {
		return 0, 0, 0, false
	}
	c, _ := strconv.ParseUint(s[start+1:dash], 16, 16)
	n, _ = strconv.Atoi(s[dash+1:])
	return uint16(c), n, start, true
}

// trailingRun finds the run at the end of s.
func trailingRun(s string) run {
	var r run
	for end := len(s); ; {
		chain, n, start, ok := lastToken(s[:end])
		switch {
		case !ok:
			return r
		case r.next == 0:
			r = run{next: n + 1, chain: chain, uniform: true}
		case n != r.first-1:
			return r
		}
		r.start, r.first = start, n
		r.uniform = r.uniform && chain == r.chain
		if end = start; n == 0 {
			return r
		}
	}
}

// ending is the part of a rendered prompt that the model itself has written:
// what a continuation starts from.
type ending struct {
	head     string // the prompt before it
	thinking run    // tokens of the thinking block
	content  run    // tokens of the answer proper
	opened   bool   // the thinking block was opened
	closed   bool   // and closed
}

// anyBlank lets a client that puts back the tags of a thinking block, whose
// white space it has never seen, use line breaks as most models do.
var anyBlank = strings.NewReplacer(thinkOpen+"\n", thinkOpen+" ", "\n"+thinkClose+"\n\n", thinkClose+" ")

// endingOf splits a rendered prompt. A thinking block counts as written by the
// model only if it is not empty; templates write an empty one to forbid it.
func endingOf(prompt string) ending {
	prompt = anyBlank.Replace(prompt)
	e := ending{head: prompt}
	last := trailingRun(prompt)
	body := prompt
	if last.next > 0 {
		body = prompt[:last.start]
	}
	switch {
	case strings.HasSuffix(body, thinkOpen):
		e.thinking, e.opened = last, true
		e.head = strings.TrimSuffix(body, thinkOpen)
		return e
	case strings.HasSuffix(body, thinkClose):
		inner := strings.TrimSuffix(body, thinkClose)
		if r := trailingRun(inner); r.next > 0 && strings.HasSuffix(inner[:r.start], thinkOpen) {
			e.thinking, e.opened, e.closed = r, true, true
			body = strings.TrimSuffix(inner[:r.start], thinkOpen)
		}
	}
	e.content = last
	e.head = body
	return e
}

// empty reports whether the model has written nothing yet.
func (e ending) empty() bool { return !e.opened && e.content.next == 0 }

// chains returns the chains with which the answer goes on.
func (e ending) chains(weights, prompt string, s sampling) (thinking, content uint16) {
	base := e.head
	own := func(kind string) uint16 { return chainOf(weights, s.key, kind, base) }
	if s.random {
		base = prompt
	} else if r, c := e.thinking, e.content; r.next > 0 && (!r.uniform || r.chain != own("thinking")) ||
		c.next > 0 && (!c.uniform || c.chain != own("content")) {
		base = prompt // not what this model would have said
	}
	return own("thinking"), own("content")
}
