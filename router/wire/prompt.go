package wire

import "bytes"

// promptText is what a parser gathers of the prompt.
type promptText struct {
	chain
	nonEmpty bool // there is a prompt, or a message
	bytes    int  // text in the messages, the prompt or the input
	pieces   int  // messages or inputs
	images   int  // in the messages

	system      uint64 // hash of a system text that is no message; 0 none
	systemBytes int
	front       uint64 // hash of what a template puts before the conversation
	toolBytes   int
	suffixBytes int
	topImages   int // images of a generate request
}

// reset forgets the conversation: of two equal members the last wins.
func (t *promptText) reset() {
	t.chain = chain{}
	t.nonEmpty, t.bytes, t.pieces, t.images = false, 0, 0, 0
}

// promptMember reads the member key if it is a part of the prompt of p.kind.
func (p *parser) promptMember(key string) bool {
	t := &p.prompt
	k := p.kind
	switch {
	case key == "prompt" && (k == Generate || k == V1Completions || k == Embeddings),
		key == "input" && (k == Embed || k == V1Embeddings || k == V1Responses):
		p.promptValue()
	case key == "messages" && (k == Chat || k == V1Chat || k == V1Messages):
		p.promptValue()
		p.Messages = t.pieces
	case key == "system" && (k == Generate || k == V1Messages), key == "instructions" && k == V1Responses:
		t.system, t.systemBytes = p.side(&t.images)
	case key == "template" && k == Generate:
		h, n := p.side(nil)
		p.HasTemplate = n > 0
		t.front += mix(h, hashA)
	case key == "suffix" && (k == Generate || k == V1Completions):
		_, t.suffixBytes = p.side(nil)
		p.HasSuffix = t.suffixBytes > 0
	case key == "context" && k == Generate:
		p.HasContext = p.count() > 0
	case key == "images" && k == Generate:
		t.topImages = p.count()
	case key == "tools" && (k == Chat || k == V1Chat || k == V1Messages || k == V1Responses):
		p.space()
		from := p.i
		p.HasTools = p.count() > 0
		if p.HasTools && !p.failed {
			t.toolBytes = p.i - from
			t.front += hashBytes(hashB, p.b[from:p.i])
		}
	default:
		return false
	}
	return true
}

// promptValue reads the prompt itself: a text, or an array of messages, of
// inputs or of items.
func (p *parser) promptValue() {
	t := &p.prompt
	t.reset()
	switch p.space() {
	case 'n':
		p.skip()
	case '"':
		p.input = true
		raw, escaped := p.str()
		t.nonEmpty = len(raw) > 0
		t.bytes, t.pieces = textLen(raw, escaped), 1
		if p.kind.Generates() {
			t.addText(raw)
		}
	case '[':
		p.input = true
		for m := p.array(); m; m = p.next() {
			t.nonEmpty = true
			p.message()
		}
	default:
		t.nonEmpty, p.input = true, true
		p.skip()
	}
}

// message reads one message of a conversation, item of a response or input of
// an embedding.
func (p *parser) message() {
	t := &p.prompt
	t.pieces++
	if p.space() != '{' {
		raw, escaped := p.text()
		t.bytes += textLen(raw, escaped)
		return
	}
	var h uint64
	user := false
	for m := p.object(); m; m = p.more() {
		var buf [longestKey]byte
		name := p.key
		key, _ := foldKey(&buf, p.key, p.keyEscaped)
		p.space()
		from := p.i
		switch string(key) {
		case "role":
			raw, _ := p.text()
			user = bytes.EqualFold(raw, []byte("user"))
		case "content", "thinking", "reasoning", "arguments", "output", "encrypted_content":
			t.bytes += p.content(&t.images)
		case "tool_calls":
			t.bytes += len(p.raw())
		case "images":
			t.images += p.count()
		default:
			p.skip()
		}
		if p.failed {
			return
		}
		// A sum, so that the order of the members does not matter.
		h += hashBytes(hashBytes(hashA, name), p.b[from:p.i])
	}
	t.add(h, estimateTokens(t.bytes, t.pieces, t.images))
	if user {
		t.identify()
	}
}

// content reads a message's content, a text or an array of parts, and returns
// the bytes of its text; it adds the images to images.
func (p *parser) content(images *int) (size int) {
	switch p.space() {
	case '"':
		raw, escaped := p.str()
		return textLen(raw, escaped)
	case '[':
		for m := p.array(); m; m = p.next() {
			size += p.content(images)
		}
		return size
	case '{':
		return p.part(images)
	}
	p.skip()
	return 0
}

// part reads one part of a content: text, an image, a tool call or its result.
func (p *parser) part(images *int) (size int) {
	for m := p.object(); m; m = p.more() {
		var buf [longestKey]byte
		key, _ := foldKey(&buf, p.key, p.keyEscaped)
		switch string(key) {
		case "type":
			raw, _ := p.text()
			switch string(raw) {
			case "image", "image_url", "input_image":
				if images != nil {
					*images++
				}
			}
		case "text", "thinking", "content", "output":
			size += p.content(images)
		case "input", "arguments":
			size += len(p.raw())
		default:
			p.skip()
		}
	}
	return size
}

// side reads a text beside the conversation and returns its hash and size.
func (p *parser) side(images *int) (hash uint64, size int) {
	p.space()
	from := p.i
	size = p.content(images)
	if p.failed || size == 0 {
		return 0, 0
	}
	return hashBytes(hashB, p.b[from:p.i]), size
}

// text reads a string; any other value is skipped and gives none.
func (p *parser) text() (raw []byte, escaped bool) {
	if p.space() == '"' {
		return p.str()
	}
	p.skip()
	return nil, false
}

// count passes over one value and returns the number of elements if it is an
// array.
func (p *parser) count() (n int) {
	if p.space() != '[' {
		p.skip()
		return 0
	}
	for m := p.array(); m; m = p.next() {
		n++
		p.skip()
	}
	return n
}

// finish writes the sizes, the estimate and the prefix hashes to peek.
func (t *promptText) finish(peek *Peek, kind Kind) {
	images := t.images + t.topImages
	beside := t.systemBytes + t.toolBytes + t.suffixBytes
	peek.HasImages = images > 0
	peek.LoadOnly = (kind == Generate || kind == Chat) && !t.nonEmpty
	peek.PromptBytes = t.bytes + beside
	if !t.nonEmpty {
		return
	}
	peek.PromptTokens = estimateTokens(peek.PromptBytes, t.pieces, images)
	if t.n == 0 {
		return
	}

	seed := mix(t.front, hashBytes(hashA, []byte(Canonical(peek.Model))))
	if peek.Raw {
		seed = mix(seed, hashB)
	}
	base := estimateTokens(t.systemBytes+t.toolBytes, 0, t.topImages)
	peek.Prefixes = make([]uint64, 0, min(t.n+1, maxPrefixes))
	peek.PrefixTokens = make([]int, 0, cap(peek.Prefixes))
	if t.system != 0 {
		seed = mix(seed, t.system)
		peek.Prefixes = append(peek.Prefixes, seed)
		peek.PrefixTokens = append(peek.PrefixTokens, base)
	}
	t.links(func(l link) {
		peek.Prefixes = append(peek.Prefixes, mix(seed, l.hash))
		peek.PrefixTokens = append(peek.PrefixTokens, base+l.tokens)
	})
	t.identify()
	peek.PrefixKey = max(mix(seed, t.first), 1)
}
