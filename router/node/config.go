package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/guard"
)

// Config makes a Node. Addresses are host:port; port 0 takes any free one.
type Config struct {
	Name     string // shown to people; default the hostname
	Cluster  string // nodes of one cluster find each other; default "home"
	StateDir string // holds the node's key, private; made when missing
	API      string // clients; default ":11435"
	Peer     string // other nodes, TLS; default ":11436"
	Gossip   string // membership, TCP and UDP; default ":11437"
	// Kept is the client port of the process that ran before, when somebody has
	// kept it open; it is used, in place of a new one, when it is where API says,
	// and closed otherwise. The node owns it.
	Kept      net.Listener
	Advertise string   // address that others shall use, when it cannot be seen from here
	Key       mesh.Key // needed once, then stored; zero and none stored: the mesh is open to the network

	Ollama    string // as OLLAMA_HOST; default 127.0.0.1:11434
	Parallel  int    // OLLAMA_NUM_PARALLEL of that server; 0 learns it
	MaxLoaded int    // OLLAMA_MAX_LOADED_MODELS of that server; 0 unknown

	Models  string // the local Ollama's OLLAMA_MODELS, where it cannot be found out
	Cloud   bool   // let the mesh use this Ollama's account at ollama.com
	NoPeers bool   // pull from the internet also what another node has
	// Internet reaches the registries that models are pulled from, to ask how
	// large one is before it is placed; nil: nobody is asked.
	Internet http.RoundTripper

	// Detect looks at the hardware; nil detects this machine's.
	Detect func(context.Context) hardware.Inventory
	// Refresh brings the free numbers of an inventory up to date; nil reads
	// this machine's. Set together with Detect.
	Refresh   func(context.Context, hardware.Inventory) hardware.Inventory
	Overrides hardware.Overrides

	// Guard is the policy in front of the client port. Its Keys are the state
	// directory's, TLS follows from the fields below, and Name is one of its
	// Hosts.
	Guard guard.Config
	// TLSCert and TLSKey are PEM files for the client port. TLS without them
	// makes a self-signed certificate in the state directory.
	TLSCert, TLSKey string
	TLS             bool

	MaxBody    int64         // bytes of a request body; default 64 MiB
	StreamIdle time.Duration // longest silence inside an answer; default 120 s
	// Grace is for running answers when the node stops; default 30 s. What runs
	// on its Ollama has it to end before it is handed over, what its clients
	// get through it has it once more.
	Grace      time.Duration
	NoContinue bool // answers that break off end in an error; see router.Config.NoContinue

	// Expect is how many members the mesh had when this node last saw it; 0: not
	// known. See [mesh.Config].
	Expect int
	// Detection is how gossip finds the dead; zero: [mesh.DefaultProfile]. For
	// nodes that share one machine.
	Detection mesh.Profile
	// Policy orders candidates; nil: router.Select. For comparisons and tests.
	Policy router.Policy

	// Tracer follows requests as spans; nil: nobody does.
	Tracer router.Tracer

	// Checkup adds what only the caller knows (settings, discovery) to the
	// answer of /mesh/v1/checkup; nil adds nothing.
	Checkup func(*admin.Checkup)

	Version string
	Logger  *slog.Logger
}

func (c *Config) validate() error {
	if c.StateDir == "" {
		return errors.New("node: no state directory")
	}
	if c.Name == "" {
		c.Name = hostname()
	}
	c.Cluster = or(c.Cluster, "home")
	c.API = or(c.API, ":11435")
	c.Peer = or(c.Peer, ":11436")
	c.Gossip = or(c.Gossip, ":11437")
	if c.Detection == (mesh.Profile{}) {
		c.Detection = mesh.DefaultProfile()
	}
	if c.Grace == 0 {
		c.Grace = 30 * time.Second
	}
	if c.Detect == nil {
		system := hardware.NewSystem()
		c.Detect = func(ctx context.Context) hardware.Inventory { return hardware.Detect(ctx, system) }
		c.Refresh = func(ctx context.Context, i hardware.Inventory) hardware.Inventory {
			return hardware.Refresh(ctx, system, i)
		}
	}
	if c.Refresh == nil {
		c.Refresh = func(_ context.Context, i hardware.Inventory) hardware.Inventory { return i }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// hostname is the machine's name without its domain.
func hostname() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "node"
	}
	short, _, _ := strings.Cut(name, ".")
	return short
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// PortError says that a port could not be bound.
type PortError struct {
	What string // "api", "peer" or "gossip"
	Addr string
	Err  error
}

func (e *PortError) Error() string { return fmt.Sprintf("%s port %s: %v", e.What, e.Addr, e.Err) }
func (e *PortError) Unwrap() error { return e.Err }

// listenAPI is the client port: the one that was kept open, or a new one.
func (c *Config) listenAPI() (net.Listener, error) {
	if c.Kept == nil {
		return listen("api", c.API)
	}
	if want, err := net.ResolveTCPAddr("tcp", c.API); err == nil && isAt(c.Kept.Addr(), want) {
		return c.Kept, nil
	}
	_ = c.Kept.Close()
	return listen("api", c.API)
}

// isAt reports whether a listener at got is what listening at want would make.
func isAt(got net.Addr, want *net.TCPAddr) bool {
	at, ok := got.(*net.TCPAddr)
	if !ok || at.Port != want.Port {
		return false
	}
	anywhere := want.IP == nil || want.IP.IsUnspecified()
	return at.IP.Equal(want.IP) || anywhere && at.IP.IsUnspecified()
}

func listen(what, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	if what == "peer" {
		lc = identity.ListenConfig()
	}
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, &PortError{What: what, Addr: addr, Err: err}
	}
	return l, nil
}
