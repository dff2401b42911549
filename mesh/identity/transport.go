package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// The defaults of peer links. A peer whose machine lost power sends no reset.
// Its kernel is asked, within three to four seconds (keepAlive, silence), and
// not its process, which inference starves. Pings ask the process: they end
// what hangs at a frozen one, 11 s after its last frame, where nobody else
// bounds its silence. When they had 2.5 s for an answer, 500 requests at once on
// two busy cores lost connections whose both ends lived, with up to 144 requests
// on one of them, and ran again elsewhere.
const (
	// DefaultDialTimeout bounds TCP connect and TLS handshake together. A peer
	// on a LAN answers within milliseconds; three seconds leave room for one
	// lost SYN (first retransmission after 1 s) and its second.
	DefaultDialTimeout = 3 * time.Second
	// DefaultSendPing is the silence on a connection after which a ping is sent.
	DefaultSendPing = time.Second
	// DefaultPingTimeout is the wait for its answer before the connection, with
	// all its streams, counts as dead.
	DefaultPingTimeout = 10 * time.Second
	// MaxStreams is how many requests one peer connection carries at once.
	// net/http's own default of 250 would make a second connection (and
	// handshake) appear in the middle of a burst.
	MaxStreams = 4096
	// bulkHeader is the patience with a peer that is to begin an answer in bulk.
	bulkHeader = 20 * time.Second
)

// Flow-control windows. One stream's window must cover bandwidth times delay
// of a fast LAN for uploads with images (1 MiB: 8 Gbit/s at 1 ms), and bounds
// what a slow client makes its ingress hold per stream. A connection's window
// is shared by all its streams: requests that wait at their owner with the
// body unread must not stop the others (500 conversations of 100 kB take
// 50 MB), so it is far above the 1 MiB that servers have by default. The
// client side's default is 1 GiB already.
const (
	streamWindow     = 1 << 20
	serverConnWindow = 64 << 20
)

// keepAlive finds out within three to four seconds that the machine at the
// other end is gone, when nothing is being sent.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}

// silence is how long bytes may stay unacknowledged before the machine at the
// other end counts as gone.
const silence = 4 * time.Second

// ListenConfig is for peer listeners, so that the owner of a request stops when
// the machine of its ingress is gone.
func ListenConfig() net.ListenConfig {
	return net.ListenConfig{KeepAliveConfig: keepAlive, Control: giveUp}
}

// TransportOptions tunes [Identity.Transport]; zero fields take the defaults.
type TransportOptions struct {
	DialTimeout time.Duration // TCP and TLS together; see [DefaultDialTimeout]
	SendPing    time.Duration // see [DefaultSendPing]; lower finds dead peers sooner and costs packets
	PingTimeout time.Duration // see [DefaultPingTimeout]; lower risks cutting a peer that is starved of CPU
	IdleTimeout time.Duration // an unused connection is closed after it; 0: 90 s
	// Bulk is for gigabytes: HTTP/1.1, each answer on a connection of its own.
	// HTTP/2's frames of 16 KiB and windows cost half as much CPU again
	// (BenchmarkCopy of router/registry). There are no pings; whoever reads an
	// answer must bound its silence.
	Bulk bool

	// Dial replaces the TCP dialer, for tests and proxies.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Below wraps the connection that TLS runs over; nil: it stays as it is.
	Below func(net.Conn) net.Conn
}

func (o TransportOptions) withDefaults() TransportOptions {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.DialTimeout, DefaultDialTimeout)
	def(&o.SendPing, DefaultSendPing)
	def(&o.PingTimeout, DefaultPingTimeout)
	def(&o.IdleTimeout, 90*time.Second)
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAliveConfig: keepAlive, Control: giveUp}).DialContext
	}
	return o
}

// Transport makes requests to peers by id: the host of a URL is a [NodeID], as
// in https://abc.../path. Resolve gives the address of its peer listener right
// now; it is asked at every dial, so a node that moved is found again. The
// connection is used only when the other side proves to be that node.
//
// All requests to one node share an HTTP/2 connection with ping health checks,
// unless they are [TransportOptions.Bulk].
// There is no limit on how long an answer may take; that is the caller's
// context. Bodies are never compressed or decompressed.
//
// [Identity.Dialer] makes connections of other protocols.
func (i *Identity) Transport(resolve func(NodeID) (netip.AddrPort, error), opts TransportOptions) *http.Transport {
	offer := protocols
	if opts.Bulk {
		offer = []string{"http/1.1"}
	}
	d := i.dialer(resolve, opts, offer)
	t := &http.Transport{
		DialTLSContext:         d.dial,
		DialContext:            refusePlain,
		ForceAttemptHTTP2:      true,
		HTTP2:                  http2Config(d.opts),
		DisableCompression:     true,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        d.opts.IdleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         32 << 10,
		WriteBufferSize:        32 << 10,
	}
	if opts.Bulk {
		t.ForceAttemptHTTP2, t.HTTP2 = false, nil
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
		t.ResponseHeaderTimeout = bulkHeader
	}
	return t
}

// Dialer connects to the peer listener of a node, by its id, and offers
// protocols (ALPN); see Transport for resolve. The handshake is done, and the
// other side has proved to be that node, when it returns.
func (i *Identity) Dialer(resolve func(NodeID) (netip.AddrPort, error), opts TransportOptions, protocols ...string) func(context.Context, NodeID) (net.Conn, error) {
	d := i.dialer(resolve, opts, protocols)
	return func(ctx context.Context, id NodeID) (net.Conn, error) { return d.to(ctx, "tcp", id) }
}

func (i *Identity) dialer(resolve func(NodeID) (netip.AddrPort, error), opts TransportOptions, protocols []string) *dialer {
	return &dialer{id: i, resolve: resolve, opts: opts.withDefaults(), protocols: protocols, configs: make(map[NodeID]*peerConfig)}
}

// ConfigureServer prepares the HTTP side of a peer listener: thousands of
// streams on one connection, the same ping health checks as the client side, and
// bounds on what a stranger can hold. It leaves handler, address and TLS alone.
func ConfigureServer(s *http.Server) {
	s.HTTP2 = http2Config(TransportOptions{}.withDefaults())
	s.HTTP2.MaxReceiveBufferPerConnection = serverConnWindow
	if s.ReadHeaderTimeout == 0 {
		s.ReadHeaderTimeout = 5 * time.Second
	}
	if s.IdleTimeout == 0 {
		s.IdleTimeout = 2 * time.Minute
	}
	if s.MaxHeaderBytes == 0 {
		s.MaxHeaderBytes = 256 << 10
	}
}

func http2Config(o TransportOptions) *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:      MaxStreams,
		MaxReceiveBufferPerStream: streamWindow,
		SendPingTimeout:           o.SendPing,
		PingTimeout:               o.PingTimeout,
		// Bytes wait here only while TCP cannot send: streams that their reader
		// neglects are held back by their own window before.
		WriteByteTimeout: 10 * time.Second,
	}
}

var errPlain = errors.New("identity: peers are reached by https only")

func refusePlain(context.Context, string, string) (net.Conn, error) { return nil, errPlain }

type dialer struct {
	id        *Identity
	resolve   func(NodeID) (netip.AddrPort, error)
	opts      TransportOptions
	protocols []string

	mu      sync.Mutex
	configs map[NodeID]*peerConfig
}

// peerConfig is how one peer is dialed.
type peerConfig struct {
	full *tls.Config // with its session cache
	// resume is full, for a session that is there to be resumed. Such a
	// handshake needs no second exchange of post-quantum keys, half of what a
	// full one costs: its keys hang on those of the session, too (RFC 8446,
	// section 7.1), whose own exchange was one. So it is resumed or not used.
	resume *tls.Config
}

// resumable reports whether there is a session with the peer at addr.
func (c *peerConfig) resumable(addr netip.AddrPort) bool {
	session, ok := c.full.ClientSessionCache.Get(addr.String()) // as package tls names those without a server name
	return ok && session != nil
}

// maxConfigs bounds the remembered TLS sessions; beyond it they start anew.
const maxConfigs = 4096

func (d *dialer) config(id NodeID) *peerConfig {
	d.mu.Lock()
	defer d.mu.Unlock()
	cfg := d.configs[id]
	if cfg == nil {
		if len(d.configs) >= maxConfigs {
			clear(d.configs)
		}
		cfg = &peerConfig{full: d.id.ClientTLS(id)}
		cfg.full.NextProtos = d.protocols
		cfg.resume = cfg.full.Clone()
		cfg.resume.CurvePreferences = []tls.CurveID{tls.X25519}
		d.configs[id] = cfg
	}
	return cfg
}

func (d *dialer) dial(ctx context.Context, network, hostport string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, fmt.Errorf("identity: dial: %w", err)
	}
	return d.to(ctx, network, NodeID(host))
}

func (d *dialer) to(ctx context.Context, network string, id NodeID) (net.Conn, error) {
	if !id.Valid() {
		return nil, fmt.Errorf("identity: dial: %.60q is no node id", string(id))
	}
	addr, err := d.resolve(id)
	if err != nil {
		return nil, fmt.Errorf("identity: dial %s: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, d.opts.DialTimeout)
	defer cancel()
	cfg := d.config(id)
	var conn *tls.Conn
	if cfg.resumable(addr) {
		conn, err = d.shake(ctx, network, addr, cfg.resume)
		if err == nil && !conn.ConnectionState().DidResume { // the peer has started anew
			_ = conn.NetConn().Close()
			conn = nil
		}
	}
	if conn == nil && err == nil {
		conn, err = d.shake(ctx, network, addr, cfg.full)
	}
	if err != nil {
		return nil, fmt.Errorf("identity: dial %s: %w", id, err)
	}
	return conn, nil
}

// shake connects to addr and does the handshake.
func (d *dialer) shake(ctx context.Context, network string, addr netip.AddrPort, cfg *tls.Config) (*tls.Conn, error) {
	raw, err := d.opts.Dial(ctx, network, addr.String())
	if err != nil {
		return nil, err
	}
	if d.opts.Below != nil {
		raw = d.opts.Below(raw)
	}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("at %s: %w", addr, err)
	}
	return conn, nil
}
