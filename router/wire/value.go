package wire

import (
	"math"
	"strconv"
	"time"
)

// stream reads stream: a pointer in Ollama's structs, where null means the
// default, and a plain bool in OpenAI's and Anthropic's, where null changes
// nothing.
func (p *parser) stream() {
	if p.space() == 'n' && (p.kind.Dialect() == Ollama || p.kind == V1Responses) {
		p.Stream = p.kind.DefaultStream()
	}
	p.bool(&p.Stream)
	p.Stream = p.Stream && p.kind.Streams()
}

func (p *parser) bool(dst *bool) {
	switch c := p.space(); c {
	case 't', 'f':
		p.skip()
		*dst = c == 't'
	default:
		p.skip()
	}
}

// integer reads a Go int; a number that is none, like 1.5 or 1e3, is a type
// error of Ollama's and leaves dst alone.
func (p *parser) integer(dst *int) {
	if n, err := strconv.ParseInt(string(p.raw()), 10, 0); err == nil {
		*dst = int(n)
	}
}

func (p *parser) long(dst **int64) {
	raw := p.raw()
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		*dst = &n
	} else if string(raw) == "null" {
		*dst = nil
	}
}

// float reads a number into dst; null unsets it.
func (p *parser) float(dst **float64) {
	if p.space() == 'n' {
		*dst = nil
	}
	if f, ok := p.decimal(); ok {
		*dst = &f
	}
}

// decimal passes over one value; ok when it was a number.
func (p *parser) decimal() (f float64, ok bool) {
	raw := p.raw()
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	return f, err == nil
}

// clamp is what Ollama makes of an integer option, which it gets as a float64;
// beyond 2^53 that is not exact any more.
func clamp(f float64) int {
	const exact = 1 << 53
	return int(min(max(f, -exact), exact))
}

// think reads whether thinking is asked for: a bool, or a level, of which
// "none" and "disabled" are no.
func (p *parser) think() {
	switch p.space() {
	case 't', 'f':
		p.ThinkSet = true
		p.bool(&p.Think)
	case '"':
		raw, _ := p.str()
		switch string(raw) {
		case "":
		case "none", "disabled":
			p.ThinkSet, p.Think = true, false
		default:
			p.ThinkSet, p.Think = true, true
		}
	default:
		p.skip()
	}
}

func (p *parser) logprobs() {
	if p.space() == 't' {
		p.HasLogprobs = true
	}
	if f, ok := p.decimal(); ok && f > 0 {
		p.HasLogprobs = true
	}
}

// stops reads stop sequences: an array of strings, for OpenAI also one string.
func (p *parser) stops(single bool) {
	switch {
	case p.space() == '[':
		p.Stop = nil
		for m := p.array(); m; m = p.next() {
			if p.space() == '"' && len(p.Stop) < maxStops {
				raw, _ := p.str()
				p.Stop = append(p.Stop, string(appendText(nil, raw)))
			} else {
				p.skip()
			}
		}
	case single && p.space() == '"':
		raw, _ := p.str()
		p.Stop = []string{string(appendText(nil, raw))}
	default:
		p.skip()
	}
}

// keepAlive reads a duration: text of time.ParseDuration or a number of
// seconds; negative is for ever.
func (p *parser) keepAlive() {
	const forever = time.Duration(math.MaxInt64)
	switch p.space() {
	case '"':
		raw, _ := p.str()
		if len(raw) > 64 {
			return
		}
		d, err := time.ParseDuration(string(appendText(nil, raw)))
		if err != nil {
			return
		}
		if d < 0 {
			d = forever
		}
		p.KeepAlive = &d
	case 'n':
		p.KeepAlive = nil
		p.skip()
	default:
		s, ok := p.decimal()
		if !ok {
			return
		}
		d := forever
		if s >= 0 && s < forever.Seconds() {
			d = time.Duration(s * float64(time.Second))
		}
		p.KeepAlive = &d
	}
}

// options reads Ollama's options. They are bound to a map, so names are exact,
// a second options object adds to the first, and null empties it. A value of
// the wrong type replaces an earlier one all the same.
func (p *parser) options() {
	switch p.space() {
	case 'n':
		p.NumPredict, p.NumCtx, p.Temperature, p.Seed, p.Stop, p.Reload = -1, 0, nil, nil, nil, 0
		p.skip()
		return
	case '{':
	default:
		p.skip()
		return
	}
	var buf [6 * longestKey]byte
	for m := p.object(); m; m = p.more() {
		key := p.key
		if p.keyEscaped {
			key = appendText(buf[:0], key)
		}
		switch string(key) {
		case "num_predict":
			p.NumPredict = -1
			if f, ok := p.decimal(); ok {
				p.NumPredict = clamp(f)
			}
		case "num_ctx":
			p.NumCtx = 0
			if f, ok := p.decimal(); ok {
				p.NumCtx = max(clamp(f), 0)
			}
		case "temperature":
			p.Temperature = nil
			p.float(&p.Temperature)
		case "seed":
			p.Seed = nil
			if f, ok := p.decimal(); ok {
				n := int64(clamp(f))
				p.Seed = &n
			}
		case "stop":
			p.Stop = nil
			p.stops(false)
		case "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread":
			p.reload(string(key))
		default:
			p.skip()
		}
	}
}

// reload adds the value that is next to the options that force a reload.
func (p *parser) reload(name string) {
	if p.space() == 'n' {
		p.skip()
		return
	}
	p.Reload += hashBytes(hashBytes(0, []byte(name)), p.raw())
}
