package wire

// member reads the top-level member that the cursor stands at. Names are
// compared as encoding/json compares them with struct fields.
func (p *parser) member() {
	var buf [longestKey]byte
	key, exact := foldKey(&buf, p.key, p.keyEscaped)
	primary, secondary := naming(p.kind)
	switch string(key) {
	case "":
		p.skip()
	case primary:
		p.modelName(primary, exact, 0)
	case secondary:
		p.modelName(secondary, exact, 1)
	case "stream":
		p.stream()
	case "insecure":
		p.bool(&p.Insecure)
	default:
		if !p.kind.Inference() {
			p.skip()
			return
		}
		if !p.promptMember(string(key)) {
			p.option(string(key))
		}
	}
}

// option reads a member that says how to answer, as far as the dialect has it.
func (p *parser) option(key string) {
	ollama := p.kind.Dialect() == Ollama
	switch key {
	case "options":
		if ollama {
			p.options()
			return
		}
	case "keep_alive":
		if ollama {
			p.keepAlive()
			return
		}
	case "raw":
		if p.kind == Generate {
			p.bool(&p.Raw)
			return
		}
	case "_debug_render_only":
		if ollama {
			p.bool(&p.Debug)
			return
		}
	case "format":
		if ollama {
			p.format = p.raw()
			return
		}
	case "shift":
		if ollama {
			p.reload("shift")
			return
		}
	case "logprobs", "top_logprobs":
		p.logprobs()
		return
	case "think":
		if ollama {
			p.think()
			return
		}
	case "n":
		p.integer(&p.N)
		return
	}
	if ollama {
		p.skip()
		return
	}
	p.v1Option(key)
}

// v1Option reads the members that only the OpenAI and Anthropic dialects have.
func (p *parser) v1Option(key string) {
	switch key {
	case p.maxTokensKey():
		p.integer(&p.NumPredict)
	case "max_completion_tokens":
		p.integer(&p.maxCompletion)
	case "temperature":
		p.float(&p.Temperature)
	case "seed":
		p.long(&p.Seed)
	case p.stopKey():
		p.stops(p.kind.Dialect() == OpenAI)
	case "stream_options":
		p.sub("include_usage", func() { p.bool(&p.IncludeUsage) })
	case "response_format":
		p.sub("type", func() { p.formatType() })
	case "text":
		p.sub("format", func() { p.sub("type", func() { p.formatType() }) })
	case "reasoning_effort":
		p.think()
	case "reasoning", "output_config":
		p.sub("effort", func() { p.think() })
	case "thinking":
		p.sub("type", func() { p.think() })
	default:
		p.skip()
	}
}

func (p *parser) maxTokensKey() string {
	if p.kind == V1Responses {
		return "max_output_tokens"
	}
	return "max_tokens"
}

func (p *parser) stopKey() string {
	if p.kind == V1Messages {
		return "stop_sequences"
	}
	return "stop"
}

// sub reads the member key of the object that is next; another type is
// skipped.
func (p *parser) sub(key string, read func()) {
	if p.space() != '{' {
		p.skip()
		return
	}
	for m := p.object(); m; m = p.more() {
		var buf [longestKey]byte
		if k, _ := foldKey(&buf, p.key, p.keyEscaped); string(k) == key {
			read()
		} else {
			p.skip()
		}
	}
}

func (p *parser) formatType() {
	switch string(p.raw()) {
	case `"json_object"`, `"json_schema"`:
		p.HasFormat = true
	}
}
