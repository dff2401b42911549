package mesh

import (
	"crypto/rand"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// An echo is a datagram by which two nodes find out whether datagrams of a size
// get through, each way: after the first byte 'K' comes
//
//	version  1 byte, 2 (a beacon has 1, 3 or 4)
//	what     1 byte: 0 please send this back, 1 this is it
//	token    16 bytes
//	...      zeros up to the size
//
// It carries nothing and is not sealed. A node sends one back only when the
// token was agreed on over the peer link just before (see [Mesh.Reach]), as
// large as it came and no more than echoLimit times: strangers get no answer,
// and nobody can make a node send more than it receives.
const (
	echoVersion = 2
	echoAsk     = 0
	echoAnswer  = 1
	echoHead    = 2 + tokenSize
	tokenSize   = 16

	echoLimit = 16               // datagrams per token
	echoFor   = 10 * time.Second // a token is good for
	maxTokens = 256
)

// EchoSizes are the sizes of a datagram, first byte included, that a node tries
// with a member: a small one, and the largest that nodes send each other.
var EchoSizes = [2]int{64, 1232}

type token [tokenSize]byte

func newToken() (t token) {
	rand.Read(t[:]) // never fails, see crypto/rand
	return t
}

// echoes are the tokens that this node has agreed on.
type echoes struct {
	send func(b []byte, to netip.AddrPort) error // adds the first byte

	mu     sync.Mutex
	tokens map[token]*heardEcho
}

// heardEcho is what came under one token.
type heardEcho struct {
	until time.Time
	mine  bool // this node asks, and waits for what comes back
	sizes []int
	count int
	news  chan struct{} // one slot
}

func newEchoes(send func([]byte, netip.AddrPort) error) *echoes {
	return &echoes{send: send, tokens: make(map[token]*heardEcho)}
}

// expect agrees on a token; false: there are too many already.
func (e *echoes) expect(t token, mine bool, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for old, h := range e.tokens {
		if now.After(h.until) {
			delete(e.tokens, old)
		}
	}
	if len(e.tokens) >= maxTokens {
		return false
	}
	e.tokens[t] = &heardEcho{until: now.Add(echoFor), mine: mine, news: make(chan struct{}, 1)}
	return true
}

// heard lists the sizes that came under a token, and a channel that is poked
// when there are more.
func (e *echoes) heard(t token) ([]int, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.tokens[t]
	if h == nil {
		return nil, nil
	}
	return slices.Clone(h.sizes), h.news
}

func (e *echoes) forget(t token) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.tokens, t)
}

// ask sends one datagram of that size.
func (e *echoes) ask(t token, size int, to netip.AddrPort) error {
	return e.send(echo(echoAsk, t, size), to)
}

func echo(what byte, t token, size int) []byte {
	b := make([]byte, max(size-1, echoHead))
	b[0], b[1] = echoVersion, what
	copy(b[2:], t[:])
	return b
}

// take handles a datagram; false: it is no echo.
func (e *echoes) take(b []byte, from netip.AddrPort, now time.Time) bool {
	if len(b) < 1 || b[0] != echoVersion {
		return false
	}
	if len(b) < echoHead {
		return true
	}
	what, t := b[1], token(b[2:echoHead])
	e.mu.Lock()
	h := e.tokens[t]
	ok := h != nil && now.Before(h.until) && h.mine == (what == echoAnswer) && h.count < echoLimit
	if ok {
		h.count++
		if size := len(b) + 1; !slices.Contains(h.sizes, size) {
			h.sizes = append(h.sizes, size)
		}
		poke(h.news)
	}
	e.mu.Unlock()
	if ok && what == echoAsk {
		_ = e.send(echo(echoAnswer, t, len(b)+1), from) // a lost one is what the asker wants to know
	}
	return true
}
