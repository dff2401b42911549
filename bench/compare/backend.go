package compare

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Backend is a fake Ollama that costs about 10 us of CPU a request, so that
// what is measured is the proxy. It speaks just enough HTTP/1.1 and just enough
// Ollama for a proxy or a kage-mesh node to take it for one. Use
// [github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest] where faithful
// behaviour matters more than cost.
//
// Every token is " n@t": its number and the time it was written, Unix ns, so
// that a client sees loss, doubling, disorder and how long the way took.
type Backend struct {
	Models []Model
	Slots  int // requests at once; more wait their turn

	slots     chan struct{}
	started   atomic.Int64
	finished  atomic.Int64
	running   atomic.Int64
	mu        sync.Mutex
	cancelled []int64 // when clients were seen to leave, Unix ns
}

// Model is one model of a fake Ollama.
type Model struct {
	Name  string
	Rate  float64       // tokens per second of a request; 0 as fast as possible
	First time.Duration // before the first token
}

// BackendStats is what GET /stats of a [Backend] says.
type BackendStats struct {
	Started   int64   `json:"started"`
	Finished  int64   `json:"finished"`
	Running   int64   `json:"running"`
	Cancelled []int64 `json:"cancelled"` // Unix ns
}

// Serve answers on l until ctx ends.
func (b *Backend) Serve(ctx context.Context, l net.Listener) error {
	b.slots = make(chan struct{}, max(b.Slots, 1))
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		conns.Go(func() {
			end := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer end()
			defer c.Close()
			b.converse(c)
		})
	}
}

// exchange is one request and its answer on a connection.
type exchange struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
	body []byte
}

func (b *Backend) converse(c net.Conn) {
	x := &exchange{conn: c, in: bufio.NewReaderSize(c, 8<<10)}
	for {
		method, path, err := x.read()
		if err != nil || !b.answer(x, method, path) {
			return
		}
	}
}

// read takes one request off the connection.
func (x *exchange) read() (method, path string, err error) {
	line, err := x.in.ReadSlice('\n')
	if err != nil {
		return "", "", err
	}
	parts := bytes.Fields(line)
	if len(parts) != 3 {
		return "", "", fmt.Errorf("compare: request line %q", line)
	}
	method, path = string(parts[0]), string(parts[1])
	length, chunked := 0, false
	for {
		line, err := x.in.ReadSlice('\n')
		if err != nil {
			return "", "", err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case len(name) == 14 && bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || length > 64<<20 {
				return "", "", fmt.Errorf("compare: content length %q", value)
			}
		case len(name) == 17 && bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
	}
	x.body = x.body[:0]
	if chunked {
		x.body, err = readChunks(x.in, x.body)
		return method, path, err
	}
	x.body, err = readFull(x.in, x.body, length)
	return method, path, err
}

// answer answers one request; false: the connection is of no more use.
func (b *Backend) answer(x *exchange, method, path string) bool {
	switch method + " " + path {
	case "POST /api/generate":
		return b.generate(x)
	case "GET /api/version":
		return x.json(200, `{"version":"0.33.0"}`)
	case "GET /api/tags":
		return x.json(200, b.tags())
	case "GET /api/ps":
		return x.json(200, b.ps())
	case "POST /api/show":
		return x.json(200, `{"details":{"family":"llama"},"model_info":{"general.architecture":"llama","llama.block_count":16,`+
			`"llama.context_length":8192,"llama.embedding_length":1024,"llama.attention.head_count":16,`+
			`"llama.attention.head_count_kv":4},"capabilities":["completion"]}`)
	case "GET /stats":
		return x.json(200, b.stats())
	case "GET /", "HEAD /":
		return x.json(200, `"Ollama is running"`)
	}
	return x.json(404, `{"error":"not found"}`)
}

// ask is what a request for text wants.
type ask struct {
	tokens int
	stream bool
}

// asked reads the two things that matter off a body without decoding it.
func asked(body []byte) ask {
	a := ask{tokens: 8, stream: !bytes.Contains(body, []byte(`"stream":false`))}
	if _, after, ok := bytes.Cut(body, []byte(`"num_predict":`)); ok {
		n := 0
		for _, c := range after {
			if c < '0' || c > '9' {
				break
			}
			n = n*10 + int(c-'0')
		}
		a.tokens = n
	}
	return a
}

func (b *Backend) holds(body []byte) (Model, bool) {
	_, name, _ := bytes.Cut(body, []byte(`"model":"`))
	name, _, _ = bytes.Cut(name, []byte(`"`))
	for _, m := range b.Models {
		if m.Name == string(name) {
			return m, true
		}
	}
	return Model{}, false
}

func (b *Backend) generate(x *exchange) bool {
	m, ok := b.holds(x.body)
	if !ok {
		return x.json(404, `{"error":"model not found"}`)
	}
	a := asked(x.body)
	b.started.Add(1)
	var gone <-chan struct{} // nil: nobody waits, nobody watches
	if m.Rate > 0 || m.First > 0 {
		w := watch(x)
		gone = w.gone
		defer w.stop()
	}
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-gone:
		return b.left()
	}
	b.running.Add(1)
	defer b.running.Add(-1)
	ok = b.speak(x, m, a, gone)
	if ok {
		b.finished.Add(1)
	}
	return ok
}

// left notes that a client was seen to leave.
func (b *Backend) left() bool {
	now := time.Now().UnixNano()
	b.mu.Lock()
	b.cancelled = append(b.cancelled, now)
	b.mu.Unlock()
	return false
}

// speak writes the answer at its pace.
func (b *Backend) speak(x *exchange, m Model, a ask, gone <-chan struct{}) bool {
	p := pace{start: time.Now().Add(m.First), rate: m.Rate}
	if !a.stream {
		if !p.wait(a.tokens, gone) {
			return b.left()
		}
		return x.whole(a.tokens)
	}
	x.out = append(x.out[:0], "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"...)
	for i := range a.tokens {
		if !p.wait(i+1, gone) {
			return b.left()
		}
		x.out = appendChunk(x.out, appendToken(nil, i))
		if _, err := x.conn.Write(x.out); err != nil {
			return b.left()
		}
		x.out = x.out[:0]
	}
	x.out = appendChunk(x.out, appendDone(nil, a.tokens))
	x.out = append(x.out, "0\r\n\r\n"...)
	_, err := x.conn.Write(x.out)
	return err == nil
}
