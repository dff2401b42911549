package ollamatest

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// Pipe is an in-memory network of one listener, made of [net.Pipe]s. Unlike
// kernel sockets it blocks durably, so a server on it and its clients can run
// in the fake time of testing/synctest:
//
//	synctest.Test(t, func(t *testing.T) {
//		pipe := ollamatest.NewPipe()
//		ollama := ollamatest.New(config)
//		ollama.Start(pipe)
//		defer ollama.Close()
//		resp, err := pipe.Client().Get("http://ollama/api/tags")
type Pipe struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// NewPipe makes a listening Pipe.
func NewPipe() *Pipe {
	return &Pipe{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept returns the server's end of the next connection.
func (p *Pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close ends listening; dials then fail.
func (p *Pipe) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// Addr returns an address without meaning.
func (p *Pipe) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

// Network names the kind of network.
func (pipeAddr) Network() string { return "pipe" }

// String returns the name of every pipe.
func (pipeAddr) String() string { return "pipe" }

// DialContext connects to the listener, whatever the address.
func (p *Pipe) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.done:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Addr: pipeAddr{}, Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Client returns an HTTP client that reaches the listener under every host
// name and keeps no connection open.
func (p *Pipe) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: p.DialContext, DisableKeepAlives: true}}
}
