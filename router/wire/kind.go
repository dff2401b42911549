package wire

// Dialect is the protocol family of a route; it decides how an error looks.
type Dialect int

// The dialects.
const (
	Ollama Dialect = iota
	OpenAI
	Anthropic
)

// String returns the dialect's name in lower case, fit for a metric label.
func (d Dialect) String() string {
	switch d {
	case OpenAI:
		return "openai"
	case Anthropic:
		return "anthropic"
	}
	return "ollama"
}

// Kind is what a request asks for: one value per route of Ollama, whatever the
// method. The zero Kind is no request.
type Kind int

// The kinds.
const (
	NoKind Kind = iota

	// Inference: the body names the model, any holder may answer.
	Generate
	Chat
	Embed
	Embeddings
	V1Chat
	V1Completions
	V1Embeddings
	V1Responses
	V1Messages
	V1Transcriptions

	// Reads.
	Root
	Version
	Status
	Tags
	Ps
	Show
	V1Models
	V1Model

	// Management of one node's models.
	Pull
	Push
	Create
	Copy
	Delete
	Blob

	// The node owner's account at ollama.com, and what spends it.
	Me
	Signout
	UserKey
	WebSearch
	WebFetch
	Recommendations

	kindEnd
)

// framing of a streamed answer.
type streaming uint8

const (
	never     streaming = iota
	onRequest           // stream:true asks for it
	byDefault           // stream:false declines it
)

var kinds = [kindEnd]struct {
	name    string
	dialect Dialect
	stream  streaming
	framing Framing
	// request is the Go struct that Ollama binds the body to; its name is part
	// of the text of a type error.
	request string
}{
	NoKind:           {name: "none"},
	Generate:         {"generate", Ollama, byDefault, NDJSON, "api.GenerateRequest"},
	Chat:             {"chat", Ollama, byDefault, NDJSON, "api.ChatRequest"},
	Embed:            {"embed", Ollama, never, 0, "api.EmbedRequest"},
	Embeddings:       {"embeddings", Ollama, never, 0, "api.EmbeddingRequest"},
	V1Chat:           {"v1-chat", OpenAI, onRequest, SSE, "openai.ChatCompletionRequest"},
	V1Completions:    {"v1-completions", OpenAI, onRequest, SSE, "openai.CompletionRequest"},
	V1Embeddings:     {"v1-embeddings", OpenAI, never, 0, "openai.EmbedRequest"},
	V1Responses:      {"v1-responses", OpenAI, onRequest, SSE, "openai.ResponsesRequest"},
	V1Messages:       {"v1-messages", Anthropic, onRequest, SSE, "anthropic.MessagesRequest"},
	V1Transcriptions: {"v1-transcriptions", OpenAI, never, 0, ""},
	Root:             {name: "root"},
	Version:          {name: "version"},
	Status:           {name: "status"},
	Tags:             {name: "tags"},
	Ps:               {name: "ps"},
	Show:             {"show", Ollama, never, 0, "api.ShowRequest"},
	V1Models:         {name: "v1-models", dialect: OpenAI},
	V1Model:          {name: "v1-model", dialect: OpenAI},
	Pull:             {"pull", Ollama, byDefault, NDJSON, "api.PullRequest"},
	Push:             {"push", Ollama, byDefault, NDJSON, "api.PushRequest"},
	Create:           {"create", Ollama, byDefault, NDJSON, "api.CreateRequest"},
	Copy:             {"copy", Ollama, never, 0, "api.CopyRequest"},
	Delete:           {"delete", Ollama, never, 0, "api.DeleteRequest"},
	Blob:             {name: "blob"},
	Me:               {name: "me"},
	Signout:          {name: "signout"},
	UserKey:          {name: "user-key"},
	WebSearch:        {name: "web-search"},
	WebFetch:         {name: "web-fetch"},
	Recommendations:  {name: "recommendations"},
}

func (k Kind) valid() bool { return k > NoKind && k < kindEnd }

// String returns a short name, fit for a metric label.
func (k Kind) String() string {
	if !k.valid() {
		return kinds[NoKind].name
	}
	return kinds[k].name
}

// Dialect returns the dialect that k's requests and errors are written in.
func (k Kind) Dialect() Dialect {
	if !k.valid() {
		return Ollama
	}
	return kinds[k].dialect
}

// Streams reports whether an answer to k can be a stream.
func (k Kind) Streams() bool { return k.valid() && kinds[k].stream != never }

// DefaultStream reports whether k streams when the request does not say:
// Ollama's own routes do, OpenAI's and Anthropic's do not.
func (k Kind) DefaultStream() bool { return k.valid() && kinds[k].stream == byDefault }

// Framing returns how a streamed answer to k is framed; it means nothing
// unless k.Streams().
func (k Kind) Framing() Framing {
	if !k.valid() {
		return NDJSON
	}
	return kinds[k].framing
}

// Inference reports whether k runs a model: such a request has no effect but
// its answer and may run on any holder, also twice.
func (k Kind) Inference() bool { return k >= Generate && k <= V1Transcriptions }

// Generates reports whether k produces text token by token, so that its answer
// takes long and can be cut in the middle.
func (k Kind) Generates() bool {
	switch k {
	case Generate, Chat, V1Chat, V1Completions, V1Responses, V1Messages:
		return true
	}
	return false
}

// structName is the Go type that Ollama binds k's body to, with and without
// its package.
func (k Kind) structName() (qualified, bare string) {
	if !k.valid() {
		return "", ""
	}
	qualified = kinds[k].request
	for i := range qualified {
		if qualified[i] == '.' {
			return qualified, qualified[i+1:]
		}
	}
	return qualified, qualified
}
