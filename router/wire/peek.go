package wire

import (
	"net/http"
	"strconv"
	"time"
)

// Peek is what the router reads of a request. Fields that a route does not
// have are at their zero, or as said below. A field whose JSON value has a type
// that Ollama would not take is left unset: saying so is Ollama's part.
type Peek struct {
	// Model is the name as the caller wrote it: the body's model, for the
	// management routes also name, and source for copy.
	Model       string
	Destination string // of a copy
	Stream      bool   // after the route's default

	KeepAlive   *time.Duration // nil unset; the largest Duration for "for ever"
	NumPredict  int            // num_predict, max_tokens or max_output_tokens; -1 unset; Ollama takes 0 as no limit
	NumCtx      int            // options.num_ctx; 0 unset
	Temperature *float64
	Seed        *int64
	Stop        []string // at most 64
	N           int      // answers asked for; 1 unset (Ollama ignores it)
	// Reload is a hash of the options, but num_ctx, whose change makes Ollama
	// unload and load the model again; 0 when none is set.
	Reload uint64

	Raw          bool // prompt goes to the model as it is
	HasImages    bool
	HasTools     bool
	HasFormat    bool // JSON or a schema is asked for
	HasSuffix    bool // fill in the middle
	HasContext   bool // the deprecated token context
	HasTemplate  bool // the request overrides the model's template
	HasLogprobs  bool
	Think        bool // thinking asked for
	ThinkSet     bool // the request says whether to think; newer Ollamas think when it does not
	IncludeUsage bool // the stream is to end with a usage chunk
	Insecure     bool // pull or push without TLS
	Debug        bool // render only: no generation

	// LoadOnly marks a generate without prompt or a chat without messages:
	// Ollama loads the model, or with KeepAlive 0 unloads it, and answers at
	// once.
	LoadOnly bool

	Messages     int // messages in the conversation, without a separate system text
	PromptBytes  int // text of the prompt, tools included, images not
	PromptTokens int // estimate; see estimateTokens

	// PrefixKey identifies a conversation from its beginning: model, system
	// text, tools and everything up to the first user message. It stays the
	// same while the conversation grows. 0 when there is no prompt.
	PrefixKey uint64
	// Prefixes are hashes of the conversation up to its message boundaries,
	// shortest first, at most 64: two requests that share one share the
	// beginning of their prompts, and a node that served the one holds that
	// part of the other in its KV cache. They are equal on all nodes and reveal
	// nothing but whether a guessed prompt is right.
	Prefixes []uint64
	// PrefixTokens estimates the prompt up to each of Prefixes.
	PrefixTokens []int
}

// Unloads reports whether the request asks to unload the model now.
func (p *Peek) Unloads() bool {
	return p.LoadOnly && p.KeepAlive != nil && int(p.KeepAlive.Seconds()) == 0
}

// MaxModelName is the longest model name in bytes that [Parse] passes on; a
// valid one has at most 350+80+80+80 and separators (Ollama, types/model).
const MaxModelName = 1024

const maxStops = 64

// Parse reads the body of a request of the given kind, decoded by [Decode].
// Kinds without a JSON body give an empty Peek.
//
// It decodes as Ollama does (encoding/json into structs: names fold case, the
// last of equal names wins) and refuses, with status 400, what another parser
// on the way could read differently: a second model member, one in other
// letter case, data after the value, a byte order mark, a value that is no
// object or ends early. A missing model is the error that the route's own
// handler gives. The body is not changed or kept; the strings of the Peek are
// copies.
func Parse(kind Kind, body []byte) (Peek, *Error) {
	if _, bare := kind.structName(); bare == "" {
		return Peek{Stream: kind.DefaultStream(), NumPredict: -1, N: 1}, nil
	}
	p := newParser(kind, body)
	if c := p.space(); c != '{' {
		return Peek{}, p.notObject(c)
	}
	for m := p.object(); m; m = p.more() {
		p.member()
	}
	switch {
	case p.failed:
		return Peek{}, ErrBadRequest(p.syntaxError())
	case p.err != nil:
		return Peek{}, p.err
	case p.space() != 0 || p.i < len(p.b):
		return Peek{}, ErrBadRequest("invalid character " + quoteByte(p.b[p.i]) + " after top-level value")
	}
	return p.finish()
}

// parser gathers a Peek in one pass over the body.
type parser struct {
	cursor
	kind Kind
	Peek
	err *Error // what makes the request refused although it is JSON

	seen   [2]bool // the members that name the model: primary, secondary
	name   string  // the secondary one
	format []byte  // raw text of Ollama's format

	maxCompletion int // OpenAI's newer name of max_tokens
	input         bool
	prompt        promptText
}

func newParser(kind Kind, body []byte) *parser {
	return &parser{
		cursor: cursor{b: body}, kind: kind, maxCompletion: -1,
		Peek: Peek{Stream: kind.DefaultStream(), NumPredict: -1, N: 1},
	}
}

// notObject explains a body whose first character is c, 0 at its end.
func (p *parser) notObject(c byte) *Error {
	if p.i == len(p.b) {
		if p.kind.Dialect() == Ollama {
			return ErrBadRequest("missing request body")
		}
		return ErrBadRequest("EOF")
	}
	p.skip()
	if p.failed {
		return ErrBadRequest(p.syntaxError())
	}
	qualified, _ := p.kind.structName()
	return ErrBadRequest("json: cannot unmarshal " + typeName(c) + " into Go value of type " + qualified)
}

// typeName is encoding/json's word for the type of a value beginning with c.
func typeName(c byte) string {
	switch c {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "bool"
	case 'n':
		return "null"
	}
	return "number"
}

// naming tells the members that name the model of a request of kind k.
func naming(k Kind) (primary, secondary string) {
	switch k {
	case Show, Pull, Push, Create, Delete:
		return "model", "name"
	case Copy:
		return "source", "destination"
	}
	return "model", ""
}

// modelName reads one of the members that name the model. slot says which.
func (p *parser) modelName(key string, exact bool, slot int) {
	switch {
	case p.seen[slot]:
		p.refuse("duplicate " + strconv.Quote(key) + " in request body")
	case !exact:
		p.refuse(strconv.Quote(key) + " must be written in lower case in request body")
	}
	p.seen[slot] = true
	switch c := p.space(); c {
	case '"':
		raw, _ := p.str()
		if len(raw) > 6*MaxModelName {
			p.refuse("invalid model name")
			return
		}
		name := string(appendText(nil, raw))
		if len(name) > MaxModelName {
			p.refuse("invalid model name")
			return
		}
		if slot == 0 {
			p.Model = name
		} else {
			p.name = name
		}
	case 'n':
		p.skip() // null leaves the field empty
	default:
		p.skip()
		_, bare := p.kind.structName()
		p.refuse("json: cannot unmarshal " + typeName(c) + " into Go struct field " + bare + "." + key + " of type string")
	}
}

// refuse notes the first reason to refuse a request. The body is read to its
// end all the same: that it is no JSON at all is the better answer.
func (p *parser) refuse(message string) {
	if p.err == nil {
		p.err = ErrBadRequest(message)
	}
}

// finish derives what needs the whole body.
func (p *parser) finish() (Peek, *Error) {
	switch {
	case p.kind == Copy:
		p.Destination = p.name
	case p.Model == "":
		p.Model = p.name
	}
	if p.Model == "" {
		return Peek{}, p.missingModel()
	}
	if p.NumPredict < 0 && p.maxCompletion >= 0 {
		p.NumPredict = p.maxCompletion
	}
	switch string(p.format) {
	case "", "null", `""`: // Ollama takes these as not set
	default:
		p.HasFormat = true
	}
	p.prompt.finish(&p.Peek, p.kind)
	return p.Peek, nil
}

// missingModel is what the route's own handler answers to a request that names
// no model (checked against Ollama 0.11.4; the newer routes by their source).
func (p *parser) missingModel() *Error {
	switch p.kind {
	case Generate, V1Completions:
		return &Error{Status: http.StatusNotFound, Message: "model '' not found"}
	case Embed, V1Embeddings:
		if p.kind == V1Embeddings && !p.input {
			return ErrBadRequest("invalid input")
		}
		return &Error{Status: http.StatusNotFound, Message: `model "" not found, try pulling it first`}
	case V1Chat:
		if p.Messages == 0 {
			return ErrBadRequest("[] is too short - 'messages'")
		}
	case Pull, Create:
		return ErrBadRequest("invalid model name")
	case Delete:
		return ErrBadRequest(`name "" is invalid`)
	case Copy:
		return ErrBadRequest(`source "" is invalid`)
	}
	return ErrBadRequest("model is required")
}
