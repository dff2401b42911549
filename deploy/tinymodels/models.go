package tinymodels

import "strings"

// Model describes one model: the weights to write and how Ollama is to use
// them.
type Model struct {
	Name       string
	Purpose    string // what a test uses it for
	Template   string // Modelfile TEMPLATE, Go template text; "" leaves the line out
	Parameters []string
	shape      shape
}

// shape decides the bytes of the GGUF.
type shape struct {
	layers, dim, ff int // blocks, embedding and feed-forward lengths (multiples of 16)
	words           int // word tokens
	seed            int64
	ambiguous       bool     // overlapping tokens: generated text tokenizes differently when read back
	script          []string // forced after <|assistant|>; endOfText ends it
	extra           []entry  // further GGUF metadata
}

// endOfText in a script is the end-of-sequence token.
const endOfText = "EOS"

// The templates. turn closes every message, so a trailing assistant message is
// followed by a new turn, as all templates that ship with Ollama do.
const (
	turn = `{{- range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{ end }}<|assistant|>`

	// openTurn leaves a trailing assistant message open, so a chat request can
	// be continued by sending the text so far.
	openTurn = `{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 }}<|{{ .Role }}|>{{ .Content }}{{ if not (and $last (eq .Role "assistant")) }}<|end|>{{ end }}{{ if and $last (ne .Role "assistant") }}<|assistant|>{{ end }}{{ end }}`

	// legacyTurn is the style from before .Messages.
	legacyTurn = `{{ if .System }}<|system|>{{ .System }}<|end|>{{ end }}{{ if .Prompt }}<|user|>{{ .Prompt }}<|end|>{{ end }}<|assistant|>{{ .Response }}<|end|>`

	thinkTurn = `{{- range .Messages }}<|{{ .Role }}|>{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}<|end|>{{ end }}<|assistant|>{{ if and $.IsThinkSet (not $.Think) }}<think></think>{{ end }}`

	toolTurn = `{{- if .Tools }}<|system|>Tools: {{ range .Tools }}{{ . }}{{ end }}<|end|>{{ end }}{{- range .Messages }}<|{{ .Role }}|>{{ if .ToolCalls }}{{ range .ToolCalls }}{"name":"{{ .Function.Name }}","parameters":{{ .Function.Arguments }}}{{ end }}{{ else }}{{ .Content }}{{ end }}<|end|>{{ end }}<|assistant|>`
)

// small is the shape of tiny: half a megabyte, loads in a quarter of a second.
var small = shape{layers: 2, dim: 64, ff: 128, words: 1000, seed: 1}

// with returns s changed by f, for a table that names only the differences.
func (s shape) with(f func(*shape)) shape {
	f(&s)
	return s
}

// plain are the parameters nearly every model has: one thread, so that several
// servers share a small machine, and the token that ends a turn.
var plain = []string{"stop <|end|>", "num_thread 1"}

// models in the order they are listed.
var models = []Model{
	{Name: "tiny", Purpose: "deterministic words; the default", Template: turn, Parameters: plain, shape: small},
	{
		Name: "tiny2", Purpose: "other weights and size than tiny", Template: turn, Parameters: plain,
		shape: small.with(func(s *shape) { s.seed, s.words = 2, 1500 }),
	},
	{
		Name: "mid", Purpose: "streams for some seconds", Template: turn, Parameters: plain,
		shape: small.with(func(s *shape) { s.layers, s.dim, s.ff = 4, 320, 1024 }),
	},
	{
		Name: "big", Purpose: "slow streams: kills and aborts in the middle (117 MB)", Template: turn, Parameters: plain,
		shape: small.with(func(s *shape) { s.layers, s.dim, s.ff = 8, 768, 2048 }),
	},
	{
		Name: "short", Purpose: "says \" one two three.\" and ends: done_reason stop", Template: turn, Parameters: plain,
		shape: small.with(scripted(" one", " two", " three", ".", endOfText)),
	},
	{
		Name: "utf8", Purpose: "an emoji as four byte tokens, an accent as two", Template: turn, Parameters: plain,
		shape: small.with(scripted(" look", "\xf0", "\x9f", "\x98", "\x80", " caf", "\xc3", "\xa9")),
	},
	{
		Name: "think", Purpose: "a <think> block, then an answer", Template: thinkTurn, Parameters: plain,
		shape: small.with(scripted("<think>", " let", " me", " ponder", "</think>", " answer")),
	},
	{
		Name: "tool", Purpose: "one JSON tool call, then ends", Template: toolTurn, Parameters: plain,
		shape: small.with(scripted(`{"name":"get_weather",`, `"parameters":{"city":`, `"Paris"}}`, endOfText)),
	},
	{
		Name: "ambig", Purpose: "its tokens are not the canonical spelling of its text", Template: turn, Parameters: plain,
		shape: small.with(func(s *shape) { s.ambiguous = true }),
	},
	{Name: "prefill", Purpose: "tiny's weights; leaves a trailing assistant message open", Template: openTurn, Parameters: plain, shape: small},
	{Name: "legacy", Purpose: "tiny's weights; .Prompt and .Response template", Template: legacyTurn, Parameters: plain, shape: small},
	{
		Name: "embed", Purpose: "declares pooling, so every Ollama accepts it for embeddings", Parameters: []string{"num_thread 1"},
		shape: small.with(func(s *shape) {
			s.seed = 3
			s.extra = []entry{{"llama.pooling_type", uint32(1)}}
		}),
	},
	{
		Name: "brief", Purpose: "tiny's weights with num_predict 24, for `ollama run`, which cannot set it", Template: turn,
		Parameters: append(append([]string(nil), plain...), "num_predict 24"), shape: small,
	},
	{
		Name: "loop", Purpose: "one word for ever, until Ollama's own guard cuts it", Template: turn, Parameters: plain,
		shape: small.with(scripted(" la", " la", " la")),
	},
	{
		Name: "native", Purpose: "chat template inside the GGUF, none in the Modelfile", Parameters: plain,
		shape: small.with(func(s *shape) { s.extra = []entry{{"tokenizer.chat_template", nativeTemplate}} }),
	},
}

func scripted(chunks ...string) func(*shape) {
	return func(s *shape) { s.script = chunks }
}

// nativeTemplate starts with a long comment so that Ollama, which compares a
// GGUF's template with those it knows by edit distance, takes it for none of
// them.
var nativeTemplate = "{# " + strings.Repeat("no known template is close to this one ", 9) + " #}" +
	"{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}" +
	"{% if add_generation_prompt %}<|assistant|>{% endif %}"

// Modelfile is the text for `ollama create`, to be read in the directory that
// holds the model's GGUF.
func (m Model) Modelfile() string {
	var b strings.Builder
	b.WriteString("FROM ./" + m.Name + ".gguf\n")
	if m.Template != "" {
		b.WriteString("TEMPLATE \"\"\"" + m.Template + "\"\"\"\n")
	}
	for _, p := range m.Parameters {
		b.WriteString("PARAMETER " + p + "\n")
	}
	return b.String()
}
