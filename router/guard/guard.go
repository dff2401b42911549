package guard

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/apikeys"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// Config makes a Guard. The zero Config is the policy of a node without keys.
type Config struct {
	// Keys are the API keys; nil: there are none.
	Keys *apikeys.Store
	// RequireKey locks the port for the network also while there are no keys.
	RequireKey bool
	// Trusted are networks whose callers need no key for inference and reads.
	Trusted []netip.Prefix
	// Hosts are names that this node answers to beside localhost, literal
	// addresses, its hostname and names under .local, .internal, .lan,
	// .home.arpa and .ts.net.
	Hosts []string
	// Origins are web pages that may call this node beside Ollama's defaults,
	// with at most one * each.
	Origins []string
	// TLS, if set, is the certificate of the port; programs on this machine may
	// still speak plain HTTP.
	TLS *tls.Config

	InFlight int   // requests at once; default 2048
	Conns    int   // connections at once; default 8192
	PerAddr  int   // connections per client address; default 512, loopback four times that
	Memory   int64 // bytes of request bodies at once; default 1 GiB

	// Spool is a directory for large bodies while they come; default os.TempDir.
	Spool string

	// Subnets lists this machine's subnets; nil asks the system.
	Subnets func() []netip.Prefix
	Logger  *slog.Logger // nil discards
}

// Guard is the policy in front of a client port. It starts no goroutine.
type Guard struct {
	config    Config // read-only after New, but for what live holds
	live      atomic.Pointer[live]
	admission *admission
	memory    *memory
	log       *slog.Logger
	quiet     *quiet
}

// live is the part of the policy that can change while the port is open.
type live struct {
	web        web
	zones      zones
	requireKey bool
}

// Update takes over RequireKey, Trusted, Hosts and Origins of c for the
// requests from now on; the rest of c counts for nothing.
func (g *Guard) Update(c Config) error {
	for _, o := range c.Origins {
		if strings.Count(o, "*") > 1 {
			return errors.New("guard: an origin may hold one * only: " + strconv.Quote(o))
		}
	}
	g.live.Store(&live{newWeb(c.Hosts, c.Origins), zones{c.Trusted, g.config.Subnets}, c.RequireKey})
	return nil
}

// New checks c and makes a Guard.
func New(c Config) (*Guard, error) {
	if c.InFlight < 0 || c.Conns < 0 || c.PerAddr < 0 || c.Memory < 0 {
		return nil, errors.New("guard: a bound is negative")
	}
	def := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	def(&c.InFlight, 2048)
	def(&c.Conns, 8192)
	def(&c.PerAddr, 512)
	if c.Memory == 0 {
		c.Memory = 1 << 30
	}
	if c.Subnets == nil {
		c.Subnets = new(interfaces).subnets
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Guard{
		config: c, admission: newAdmission(c.InFlight), memory: newMemory(c.Memory),
		log: c.Logger.With("component", "guard"), quiet: newQuiet(),
	}
	if err := g.Update(c); err != nil {
		return nil, err
	}
	return g, nil
}

// Listener looks at every byte of l's connections and bounds their number.
func (g *Guard) Listener(l net.Listener) net.Listener {
	return &listener{
		Listener: l, total: g.config.Conns, perAddr: g.config.PerAddr, tls: g.config.TLS,
		conns: make(map[*conn]struct{}), count: make(map[netip.Addr]int),
	}
}

// Handler lets next serve what the policy allows.
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if c := connOf(req); c != nil {
			c.serving.Add(1)
			defer c.served()
		}
		defer Contain(g.log)
		g.serve(w, req, next)
	})
}

// Contain is deferred by handlers: it tells of a panic without its value, which
// may quote a request, and ends the connection. A runtime error quotes numbers
// and types only.
func Contain(log *slog.Logger) {
	v := recover()
	if v == nil {
		return
	}
	if v != http.ErrAbortHandler { //nolint:errorlint // net/http's contract is the bare value
		text := fmt.Sprintf("%T", v)
		var bug runtime.Error
		if err, ok := v.(error); ok && errors.As(err, &bug) {
			text = bug.Error()
		}
		log.Error("a handler panicked", "what", text, "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

func (g *Guard) serve(w http.ResponseWriter, req *http.Request, next http.Handler) {
	area, dialect := AreaOf(req.Method, req.URL.Path)
	zone, addr := g.live.Load().zones.of(req)
	refuse := func(why string, e *wire.Error) {
		if ok, missed := g.quiet.pass(why+" "+addr.String(), time.Now()); ok {
			g.log.Info("request refused", "why", why, "status", e.Status, "area", area.String(),
				"zone", zone.String(), "from", addr, "repeated", missed)
		}
		writeError(w, dialect, e)
	}
	if why, e := hygiene(req); e != nil {
		w.Header().Set("Connection", "close")
		refuse(why, e)
		return
	}
	key, unknown := g.key(credential(req.Header))
	if why, e := g.pages(req, area, key); e != nil {
		refuse(why, e)
		return
	}
	origin := wire.Field(req.Header, "Origin")
	if origin != "" {
		if req.Method == http.MethodOptions && wire.Field(req.Header, "Access-Control-Request-Method") != "" {
			preflight(w, req)
			return
		}
		answerOrigin(w.Header(), origin)
	}
	ask := Ask{Area: area, Zone: zone, Key: key, Locked: g.locked(), Direct: direct(req.Host)}
	if e := Decide(ask); e != nil {
		if e.Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="kage-mesh"`)
			if unknown {
				e.Message = "this API key is not known here; " + e.Message
			}
		}
		refuse("policy", e)
		return
	}
	v := &visit{Context: req.Context(), caller: Caller{Name: nameOf(addr), Addr: addr, Zone: zone, Key: key}}
	caller := &v.caller
	caller.Owner = zone == Here && ask.Direct || key.Has(apikeys.Admin)
	if key != nil {
		caller.Name = "key:" + key.Name
	}
	if area == Open || area == Control || area == Metrics {
		next.ServeHTTP(w, req.WithContext(v))
		return
	}
	leave, retry, why := g.admission.enter(caller.Name, key, zone, time.Now())
	if leave == nil {
		refuse(why, wire.ErrTooMany(retry))
		return
	}
	defer leave()
	g.pass(w, req, v, next)
}

// visit is the context of a request that may go on, with all that the guard
// keeps for it.
type visit struct {
	context.Context //nolint:containedctx // it is one
	caller          Caller
	hold            hold
	body            steady
	writer          writer
	bounded         bool // hold counts
}

// Value implements context.Context.
func (v *visit) Value(key any) any {
	switch key {
	case callerKey{}:
		return &v.caller
	case holdKey{}:
		if v.bounded {
			return &v.hold
		}
	}
	return v.Context.Value(key)
}

// pass hands a request to the handler, with its body and answer bounded.
func (g *Guard) pass(w http.ResponseWriter, req *http.Request, v *visit, next http.Handler) {
	v.hold = hold{memory: g.memory, client: v.caller.Name, zone: v.caller.Zone, spool: g.config.Spool}
	v.bounded = true
	defer v.hold.drop()
	req = req.WithContext(v)
	v.writer = writer{ResponseWriter: w, control: *http.NewResponseController(w)}
	if req.Body != nil && req.Body != http.NoBody {
		v.body = steady{ReadCloser: req.Body, control: &v.writer.control}
		defer v.body.clear()
		req.Body = &v.body
	}
	next.ServeHTTP(&v.writer, req)
}

// key looks a credential up. unknown reports that one was shown which is no key
// of ours: clients with a fixed one ("ollama") are no offence where none is
// needed.
func (g *Guard) key(text string) (key *apikeys.Key, unknown bool) {
	if text == "" {
		return nil, false
	}
	if g.config.Keys != nil {
		if key, ok := g.config.Keys.Match(text); ok {
			return key, false
		}
	}
	return nil, true
}

// locked reports whether callers from the network need a key.
func (g *Guard) locked() bool {
	if g.live.Load().requireKey {
		return true
	}
	if g.config.Keys == nil {
		return false
	}
	locked, err := g.config.Keys.Locked()
	if err != nil {
		if ok, _ := g.quiet.pass("keys", time.Now()); ok {
			g.log.Error("the api keys cannot be read; the network needs a key until they can", "err", err)
		}
	}
	return locked
}

// Locked reports whether callers from the network need an API key now.
func (g *Guard) Locked() bool { return g.locked() }

// hygiene refuses requests that net/http understands and that have no honest
// use here.
func hygiene(req *http.Request) (why string, e *wire.Error) {
	switch {
	case strangeMethod(req.Method):
		return "method", &wire.Error{Status: http.StatusMethodNotAllowed, Message: "405 method not allowed", Plain: true}
	case !strings.HasPrefix(req.RequestURI, "/") || strings.HasPrefix(req.RequestURI, "//"):
		return "target", wire.ErrBadRequest("the request target must be a path")
	case wire.Field(req.Header, HopHeader) != "" && req.URL.Path != "/mesh/v1/id":
		return "loop", wire.ErrLoop()
	}
	return "", nil
}

// HopHeader marks what a node sends to its Ollama. A client port that sees it
// has been given to a node as its Ollama: a loop.
const HopHeader = "X-Kage-Hop"

// pages keeps web pages out that have no business here. A caller with a key of
// ours is no page that merely got hold of a name.
func (g *Guard) pages(req *http.Request, area Area, key *apikeys.Key) (why string, e *wire.Error) {
	if key == nil && !g.live.Load().web.hostOK(req.Host) {
		return "host", wire.ErrForbidden("this node does not answer to that host name; start it with --host and the name, if it is yours")
	}
	origin := wire.Field(req.Header, "Origin")
	if len(req.Header.Values("Origin")) > 1 || origin != "" && !g.live.Load().web.originOK(origin, req.Host) {
		return "origin", wire.ErrForbidden("web pages of that origin may not call this node; start it with --origins or OLLAMA_ORIGINS, if it is yours")
	}
	switch area {
	case Manage, Account, Control, Metrics:
		if origin == "" && crossSite(req) || area == Control && !sameOrigin(req) {
			return "site", wire.ErrForbidden("web pages of other sites may not do this")
		}
	}
	return "", nil
}

// writeError writes e in the caller's dialect.
func writeError(w http.ResponseWriter, d wire.Dialect, e *wire.Error) {
	contentType, body := e.Body(d)
	h := w.Header()
	e.SetHeader(h)
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.Status)
	_, _ = w.Write(body)
}

// quiet lets one line of a kind through per minute.
type quiet struct {
	mu    sync.Mutex
	kinds map[string]*refusals
}

type refusals struct {
	until  time.Time
	missed int
}

func newQuiet() *quiet { return &quiet{kinds: make(map[string]*refusals)} }

const (
	quietFor = time.Minute
	maxKinds = 512
)

func (q *quiet) pass(kind string, now time.Time) (bool, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r := q.kinds[kind]; r != nil && now.Before(r.until) {
		r.missed++
		return false, 0
	}
	missed := 0
	if r := q.kinds[kind]; r != nil {
		missed = r.missed
	} else if len(q.kinds) >= maxKinds {
		for k, r := range q.kinds {
			if !now.Before(r.until) {
				delete(q.kinds, k)
			}
		}
		if len(q.kinds) >= maxKinds {
			return false, 0 // a flood from everywhere: the first lines told it
		}
	}
	q.kinds[kind] = &refusals{until: now.Add(quietFor)}
	return true, missed
}
