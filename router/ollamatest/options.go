package ollamatest

import (
	"fmt"
	"strconv"
)

// options are the parameters of one request that the fake acts upon.
type options struct {
	numPredict int
	numCtx     int
	ctxSet     bool // num_ctx was asked for, not defaulted
	stop       []string

	temperature, topP, minP, typicalP            float64
	repeatPenalty, presencePenalty, freqPenalty  float64
	topK, seed, repeatLastN, mirostat, numKeep   int
	numBatch, numGPU, mainGPU, numThread, useMMP int
}

// loadKey is the part of the options that a runner is started with. A request
// with another key makes Ollama unload and load the model.
type loadKey struct {
	numCtx, numBatch, numGPU, mainGPU, numThread, useMMP int
}

func (o *options) loadKey() loadKey {
	return loadKey{o.numCtx, o.numBatch, o.numGPU, o.mainGPU, o.numThread, o.useMMP}
}

// ints and floats bind option names to their fields.
func (o *options) ints() map[string]*int {
	return map[string]*int{
		"num_predict": &o.numPredict, "num_ctx": &o.numCtx, "num_batch": &o.numBatch, "num_gpu": &o.numGPU,
		"main_gpu": &o.mainGPU, "num_thread": &o.numThread, "num_keep": &o.numKeep, "seed": &o.seed,
		"top_k": &o.topK, "repeat_last_n": &o.repeatLastN, "mirostat": &o.mirostat,
	}
}

func (o *options) floats() map[string]*float64 {
	return map[string]*float64{
		"temperature": &o.temperature, "top_p": &o.topP, "min_p": &o.minP, "typical_p": &o.typicalP,
		"repeat_penalty": &o.repeatPenalty, "presence_penalty": &o.presencePenalty, "frequency_penalty": &o.freqPenalty,
	}
}

// options merges Ollama's defaults, the model's parameters and the request's.
func (s *Server) options(e *entry, request map[string]any) (options, error) {
	o := options{
		numPredict: -1, numCtx: s.cfg.ContextLength, numBatch: 512, numGPU: -1, seed: -1, numKeep: 4,
		temperature: 0.8, topK: 40, topP: 0.9, typicalP: 1, repeatLastN: 64, repeatPenalty: 1,
		stop: []string{"<|end|>"},
	}
	if s.has.oldPenalty {
		o.repeatPenalty = 1.1
	}
	for _, set := range []map[string]any{e.Options, request} {
		if err := o.apply(set); err != nil {
			return o, err
		}
	}
	o.numCtx = max(min(o.numCtx, e.ContextLength), 4)
	return o, nil
}

// apply sets the options in m. Unknown names are ignored, as Ollama does.
func (o *options) apply(m map[string]any) error {
	if len(m) == 0 {
		return nil
	}
	ints, floats := o.ints(), o.floats()
	for name, value := range m {
		if value == nil {
			continue
		}
		if p := ints[name]; p != nil {
			n, ok := number(value)
			if !ok {
				return fmt.Errorf("option %q must be of type integer", name)
			}
			*p = int(n)
			o.ctxSet = o.ctxSet || name == "num_ctx"
			continue
		}
		if p := floats[name]; p != nil {
			n, ok := number(value)
			if !ok {
				return fmt.Errorf("option %q must be of type float32", name)
			}
			*p = n
			continue
		}
		switch name {
		case "stop":
			stop, ok := stringList(value)
			if !ok {
				return fmt.Errorf("option %q must be of type array", name)
			}
			o.stop = stop
		case "use_mmap":
			on, ok := value.(bool)
			if !ok {
				return fmt.Errorf("option %q must be of type boolean", name)
			}
			o.useMMP = 1
			if on {
				o.useMMP = 2
			}
		}
	}
	return nil
}

// number reads a JSON number, or a Go one from [Model.Options].
func number(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case int:
		return float64(n), true
	}
	return 0, false
}

func stringList(v any) ([]string, bool) {
	switch list := v.(type) {
	case []string:
		return list, true
	case []any:
		out := make([]string, 0, len(list))
		for _, x := range list {
			s, ok := x.(string)
			if !ok {
				return nil, false
			}
			out = append(out, s)
		}
		return out, true
	}
	return nil, false
}

// sampling is the influence of the options on the text.
type sampling struct {
	key    string
	random bool // tokens are drawn at random, so a continuation starts another chain
}

// sampling sums up o. Greedy decoding (temperature 0 or top_k 1) depends on
// the penalties alone; otherwise on everything, and without a seed on chance.
func (s *Server) sampling(o options) sampling {
	b := make([]byte, 0, 64)
	add := func(v float64) { b = strconv.AppendFloat(append(b, ','), v, 'g', -1, 64) }
	add(o.repeatPenalty)
	add(o.presencePenalty)
	add(o.freqPenalty)
	if o.repeatPenalty != 1 || o.presencePenalty != 0 || o.freqPenalty != 0 {
		add(float64(o.repeatLastN))
	}
	if o.temperature <= 0 || o.topK == 1 {
		return sampling{key: string(b)}
	}
	for _, v := range []float64{o.temperature, float64(o.topK), o.topP, o.minP, o.typicalP, float64(o.seed)} {
		add(v)
	}
	if o.seed < 0 {
		b = strconv.AppendUint(append(b, ','), s.random(), 16)
	}
	return sampling{key: string(b), random: true}
}
