package wire

import "math"

// A token estimate must be good enough to order nodes, and cheap. Four bytes of
// text per token is the usual rule for English and code; Chinese has three
// bytes a character and 0.6 to 1 token. Ollama's own estimate for the Anthropic
// dialect divides by four as well.
const (
	bytesPerToken    = 4
	tokensPerMessage = 4    // role and turn marks of the template
	tokensPerImage   = 1024 // between 256 (Gemma 3) and 2880 (LLaVA 1.6, four tiles)
)

func estimateTokens(bytes, messages, images int) int {
	return (bytes+bytesPerToken-1)/bytesPerToken + tokensPerMessage*messages + tokensPerImage*images
}

// A conversation longer than maxPrefixes messages keeps the hashes of its first
// boundaries (shared system texts and examples) and of its last ones (the next
// turn of the same conversation matches at the end of this one).
const (
	maxPrefixes = 64
	headLinks   = 8
	tailLinks   = maxPrefixes - headLinks - 1 // one place is for the system text
)

// link is the conversation up to one boundary.
type link struct {
	hash   uint64
	tokens int
}

// chain is the cumulative hash of a conversation and its boundaries.
type chain struct {
	n     int
	hash  uint64
	head  [headLinks]link
	tail  [tailLinks]link // ring
	first uint64          // the hash to take for the conversation's identity
	found bool
}

// add appends a piece with hash h; tokens is the estimate so far.
func (c *chain) add(h uint64, tokens int) {
	c.hash = mix(c.hash, h)
	l := link{c.hash, tokens}
	if c.n < headLinks {
		c.head[c.n] = l
	} else {
		c.tail[(c.n-headLinks)%tailLinks] = l
	}
	c.n++
}

// identify makes the chain so far the conversation's identity, once.
func (c *chain) identify() {
	if !c.found {
		c.first, c.found = c.hash, true
	}
}

// links yields the kept boundaries, shortest first.
func (c *chain) links(yield func(link)) {
	for _, l := range c.head[:min(c.n, headLinks)] {
		yield(l)
	}
	kept := min(c.n-headLinks, tailLinks)
	for i := c.n - kept; i < c.n; i++ {
		yield(c.tail[(i-headLinks)%tailLinks])
	}
}

// A single prompt has no message boundaries. It is hashed up to 1024 bytes and
// then every 19 % (2^(1/4)): the cut points of two prompts with a common
// beginning are the same, and at least 84 % of that beginning lies before the
// last common one.
const (
	firstCut    = 1024
	identityCut = 4096 // a prompt's identity is at most this much of it
)

var cuts = func() (at [maxPrefixes - headLinks]int) {
	for i := range at {
		at[i] = int(firstCut * math.Exp2(float64(i)/4))
	}
	return at
}()

// addText appends one text, cut as said above.
func (c *chain) addText(raw []byte) {
	from := 0
	for _, at := range cuts {
		if at >= len(raw) {
			break
		}
		c.add(hashBytes(hashC, raw[from:at]), estimateTokens(at, 1, 0))
		from = at
		if at >= identityCut {
			c.identify()
		}
	}
	c.add(hashBytes(hashC, raw[from:]), estimateTokens(len(raw), 1, 0))
}
