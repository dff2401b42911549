package ollamatest

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// piece is what one decoding step yields.
type piece struct {
	kind   kind
	hidden bool       // produced, but not shown: tags, text of a tool call
	text   []byte     // valid until the next step
	calls  []toolCall // a finished tool call
	tokens int
}

// generator yields an answer step by step; false is the model's end of turn.
type generator interface {
	next() (piece, bool)
}

// wish is what a generator is made from.
type wish struct {
	entry  *entry
	prompt string // rendered
	opts   options
	format json.RawMessage // "json" or a schema; nil = free text
	tools  []tool          // on offer, and the model is to call one
	parse  bool            // tell thinking from content; otherwise the tags are content
}

// generator decides how the model answers.
func (s *Server) generator(w wish) generator {
	end := endingOf(w.prompt)
	thoughts, chain := end.chains(w.entry.Weights, w.prompt, s.sampling(w.opts))
	switch {
	case w.entry.Loop:
		return looping{}
	case w.format != nil:
		return &script{pieces: jsonPieces(w.format, chain)}
	case len(w.tools) > 0:
		return &script{pieces: toolPieces(w.tools[0], chain, s.has.modern, s.random())}
	}
	m := w.entry
	n := &numbered{
		chain: chain, at: end.content.next, total: m.Answer, perChunk: m.TokensPerChunk, parse: w.parse,
	}
	if m.Answer == 0 {
		n.total = 64
		if w.opts.numPredict > 0 {
			n.total = -1
		}
	}
	if m.can("thinking") {
		n.thoughts, n.thinkTotal, n.thinkAt = thoughts, m.ThinkTokens, end.thinking.next
		switch {
		case end.opened && !end.closed:
			n.phase = inThought
		case end.empty() && freshTurn(end.head):
			n.phase = beforeThought
		}
	}
	return n
}

// freshTurn reports whether a prompt ends where the assistant begins, with no
// text put into its mouth and no ban on thinking.
func freshTurn(head string) bool {
	return strings.HasSuffix(head, "<|assistant|>") || !strings.Contains(head, "<|assistant|>")
}

// phase is where in an answer a numbered generator is.
type phase int

const (
	inContent phase = iota
	beforeThought
	inThought
)

// numbered yields the numbered sequence, with a thinking block before it for
// models that think.
type numbered struct {
	phase           phase
	chain, thoughts uint16
	at, total       int // position in the content; total < 0 = without end
	thinkAt         int
	thinkTotal      int
	perChunk        int
	parse           bool
	buf             []byte
	trimNext        bool // thinking parsers trim the blank next to a tag
}

func (g *numbered) next() (piece, bool) {
	switch {
	case g.phase == beforeThought:
		g.phase, g.trimNext = inThought, true
		return g.tag(thinkOpen), true
	case g.phase == inThought && g.thinkAt >= g.thinkTotal:
		g.phase, g.trimNext = inContent, true
		return g.tag(thinkClose), true
	case g.phase == inThought:
		g.buf = appendAnswer(g.buf[:0], g.thoughts, g.thinkAt)
		g.thinkAt++
		p := piece{kind: thinking, tokens: g.perChunk, text: g.trim()}
		if !g.parse {
			p.kind = content
		}
		return p, true
	case g.total >= 0 && g.at >= g.total:
		return piece{}, false
	}
	g.buf = appendAnswer(g.buf[:0], g.chain, g.at)
	g.at++
	return piece{tokens: g.perChunk, text: g.trim()}, true
}

// tag yields a thinking tag, which is shown only when nobody parses it.
func (g *numbered) tag(text string) piece {
	g.buf = append(g.buf[:0], text...)
	return piece{hidden: g.parse, text: g.buf, tokens: 1}
}

// trim cuts the blank of a token that follows a parsed tag.
func (g *numbered) trim() []byte {
	if g.trimNext && g.parse {
		g.trimNext = false
		return g.buf[1:]
	}
	return g.buf
}

// looping repeats itself for ever.
type looping struct{}

func (looping) next() (piece, bool) { return piece{text: []byte(" la"), tokens: 1}, true }

// script yields fixed pieces.
type script struct{ pieces []piece }

func (g *script) next() (piece, bool) {
	if len(g.pieces) == 0 {
		return piece{}, false
	}
	p := g.pieces[0]
	g.pieces = g.pieces[1:]
	return p, true
}

// split cuts a text into one piece per token.
func split(text string, hidden bool) []piece {
	var out []piece
	for text != "" {
		n := tokenLen(text)
		out = append(out, piece{text: []byte(text[:n]), hidden: hidden, tokens: 1})
		text = text[n:]
	}
	return out
}

// jsonWords is how many answer tokens a free JSON answer holds.
const jsonWords = 8

// jsonPieces is one JSON object that fits the format. A grammar starts at its
// root whatever the prompt ends with, so a continuation is a second object.
func jsonPieces(format json.RawMessage, chain uint16) []piece {
	var schema schema
	if json.Unmarshal(format, &schema) != nil || len(schema.Properties) == 0 {
		b := []byte(`{"answer":"`)
		for i := range jsonWords {
			b = appendAnswer(b, chain, i)
		}
		return split(string(b)+`"}`, false)
	}
	n := 0
	return split(string(schema.example(nil, chain, &n)), false)
}

// schema is the part of JSON Schema that is needed to invent an example.
type schema struct {
	Type       any               `json:"type"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	Enum       []json.RawMessage `json:"enum"`
}

// example appends a value of the schema; strings are answer tokens, counted in n.
func (s schema) example(b []byte, chain uint16, n *int) []byte {
	if len(s.Enum) > 0 {
		return append(b, s.Enum[0]...)
	}
	kind, _ := s.Type.(string)
	switch {
	case kind == "object" || len(s.Properties) > 0:
		names := s.Required
		if len(names) == 0 {
			for name := range s.Properties {
				names = append(names, name)
			}
			slices.Sort(names)
		}
		b = append(b, '{')
		for i, name := range names {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(strconv.AppendQuote(b, name), ':')
			b = s.Properties[name].example(b, chain, n)
		}
		return append(b, '}')
	case kind == "array":
		return append(b, "[]"...)
	case kind == "integer", kind == "number":
		*n++
		return strconv.AppendInt(b, int64(*n-1), 10)
	case kind == "boolean":
		return append(b, "true"...)
	case kind == "null":
		return append(b, "null"...)
	}
	b = appendAnswer(append(b, '"'), chain, *n)
	*n++
	return append(b, '"')
}

// toolPieces is one call of t. Its text is held back until it is complete.
func toolPieces(t tool, chain uint16, ids bool, random uint64) []piece {
	var params schema
	_ = json.Unmarshal(t.Function.Parameters, &params) // a tool may have none
	params.Type = "object"
	n := 0
	args := params.example(nil, chain, &n)
	call := toolCall{Function: functionCall{Name: t.Function.Name, Arguments: args}}
	if ids { // newer versions number the calls
		call.ID = callID(random)
		call.Function.Index = new(int)
	}
	pieces := split(`{"name":"`+t.Function.Name+`","parameters":`+string(args)+`}`, true)
	return append(pieces[:len(pieces)-1], piece{calls: []toolCall{call}, tokens: 1})
}

// callID is an identifier in OpenAI's style.
func callID(random uint64) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := []byte("call_")
	for range 8 {
		b = append(b, letters[random%uint64(len(letters))])
		random /= uint64(len(letters))
	}
	return string(b)
}
