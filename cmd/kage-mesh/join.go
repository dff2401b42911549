package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/discovery"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/node"
)

// protocol of the peer link; nodes with equal numbers work together.
const protocol = mesh.Protocol

func (e environment) joinCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:      "join",
		Usage:     "run this machine's node until it is stopped",
		ArgsUsage: "[ADDRESS...]",
		Description: "Makes this machine's Ollama part of the mesh and serves the mesh's endpoint on\n" +
			"port 11435. Nodes on one network find each other without an ADDRESS; elsewhere\n" +
			"name the address of any node, as host or host:port of its gossip port.\n\n" +
			"Every flag can also be set in the configuration file (without the dashes) and by\n" +
			"its environment variable. SIGTERM or Ctrl-C stops the node in order: it takes no\n" +
			"new work, what runs is finished or handed over to other nodes (--drain-grace),\n" +
			"and it says goodbye. A second one stops it at once.",
		Flags:  joinFlags(),
		Before: applyConfig,
		Action: underManager(e.join),
	})
}

func joinFlags() []cli.Flag {
	text := func(name, env, value, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, EnvVars: []string{env}, Value: value, Usage: usage}
	}
	return append([]cli.Flag{
		configFlag(),
		text("name", "KAGE_NAME", "", "name of this node (default: the hostname)"),
		text("cluster", "KAGE_CLUSTER", "home", "nodes of one cluster find each other"),
		&cli.StringSliceFlag{Name: "seed", EnvVars: []string{"KAGE_SEED"}, Usage: "`ADDRESS` of another node; the same as an argument"},
		text("api-listen", "KAGE_API_LISTEN", ":11435", "`ADDRESS` for clients (port 0: any free one)"),
		text("peer-listen", "KAGE_PEER_LISTEN", ":11436", "`ADDRESS` for other nodes' requests, TLS"),
		text("gossip-listen", "KAGE_GOSSIP_LISTEN", ":11437", "`ADDRESS` for membership, TCP and UDP"),
		text("advertise", "KAGE_ADVERTISE", "", "`ADDRESS` that other nodes shall use, where it cannot be seen from here"),
		text("ollama", "KAGE_OLLAMA", "", "the local Ollama, as in OLLAMA_HOST (default: $OLLAMA_HOST, then 127.0.0.1:11434)"),
		&cli.IntFlag{Name: "parallel", EnvVars: []string{"KAGE_PARALLEL", "OLLAMA_NUM_PARALLEL"}, Usage: "requests per loaded model at once; set it to the local Ollama's OLLAMA_NUM_PARALLEL (default: learned)"},
		&cli.IntFlag{Name: "max-loaded", EnvVars: []string{"KAGE_MAX_LOADED", "OLLAMA_MAX_LOADED_MODELS"}, Usage: "models in memory at once; set it to the local Ollama's OLLAMA_MAX_LOADED_MODELS"},
		text("ollama-models", "KAGE_OLLAMA_MODELS", "", "`DIRECTORY` of the local Ollama's models, as in its OLLAMA_MODELS, where it cannot be found out"),
		&cli.BoolFlag{Name: "no-lan-copy", EnvVars: []string{"KAGE_NO_LAN_COPY"}, Usage: "pull from the internet also what another node has on its disk"},
		&cli.BoolFlag{Name: "share-cloud", EnvVars: []string{"KAGE_SHARE_CLOUD"}, Usage: "let the whole mesh use the local Ollama's account at ollama.com"},
		text("key-file", "KAGE_KEY_FILE", "", "`FILE` with the mesh key, '-' for standard input (or the key itself in KAGE_KEY)"),
		text("state-dir", "KAGE_STATE_DIR", stateHome(), "`DIRECTORY` for this node's identity and memory"),
		text("gpu", "KAGE_GPU", "", "name of the GPU, where it is not detected; 'none' hides one"),
		text("vram", "KAGE_VRAM", "", "GPU memory usable by models, as in 24GiB, where it is not detected"),
		text("ram", "KAGE_RAM", "", "RAM usable by models, as in 48GiB"),
		text("role", "KAGE_ROLE", "", "word to show for this node (default: gpu, cpu or router)"),
		&cli.BoolFlag{Name: "no-mdns", EnvVars: []string{"KAGE_NO_MDNS"}, Usage: "neither advertise nor look for nodes on the local network"},
		&cli.DurationFlag{Name: "drain-grace", EnvVars: []string{"KAGE_DRAIN_GRACE"}, Value: 30 * time.Second, Usage: "when the node stops: time for what runs on its Ollama before other nodes take it on, and once more for what its clients read through it"},
		&cli.DurationFlag{Name: "stream-idle", EnvVars: []string{"KAGE_STREAM_IDLE"}, Value: 120 * time.Second, Usage: "longest silence inside an answer; then its node is given up and the answer continued on another"},
		&cli.BoolFlag{Name: "no-continue", EnvVars: []string{"KAGE_NO_CONTINUE"}, Usage: "end an answer whose node dies in an error, instead of continuing it on another"},
		text("max-body", "KAGE_MAX_BODY", "64MiB", "largest request body"),
		&cli.StringFlag{Name: "otlp-endpoint", EnvVars: []string{"KAGE_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}, Usage: "`URL` of a collector to send traces of requests to, OTLP over HTTP (default: none; nothing is traced)"},
		text("log-level", "KAGE_LOG_LEVEL", "info", "debug, info, warn or error"),
		text("log-format", "KAGE_LOG_FORMAT", "auto", "text, json, or auto: text on a terminal"),
	}, doorFlags()...)
}

// join runs a node; on a terminal it asks for the key when the network's mesh
// has one.
func (e environment) join(c *cli.Context) error {
	logger, level, flush, err := e.logger(c)
	if err != nil {
		return err
	}
	defer flush()
	config, static, err := e.readJoin(c, logger)
	if err != nil {
		return err
	}
	keepHeadroom()
	for {
		r := &reloader{env: e, level: level, seeds: newSeeds(static), log: logger}
		settings := settingsOf(c)
		r.settings.Store(&settings)
		err := e.runNode(c, config, r)
		if !errors.Is(err, errKeyNeeded) {
			return err
		}
		key, ok := e.askKey(config.Cluster)
		if !ok {
			return err
		}
		config.Key = key
	}
}

// readJoin reads the settings of a node and the addresses of others.
func (e environment) readJoin(c *cli.Context, logger *slog.Logger) (node.Config, discovery.Static, error) {
	config, err := e.nodeConfig(c, logger)
	if err != nil {
		return config, nil, err
	}
	static, err := discovery.ParseSeeds(append(c.StringSlice("seed"), c.Args().Slice()...)...)
	if err != nil {
		return config, nil, usage("give nodes as host or host:port, as in 'kage-mesh join 192.168.1.20'", "%w", err)
	}
	return config, static, nil
}

// runNode runs a node with discovery beside it until it stops.
func (e environment) runNode(c *cli.Context, config node.Config, r *reloader) error {
	logger := r.log
	config.Checkup = func(up *admin.Checkup) {
		up.MDNS, up.Seeds, up.Settings = !c.Bool("no-mdns"), r.seeds.get(), *r.settings.Load()
	}
	flush, err := e.traced(c, &config)
	if err != nil {
		return err
	}
	defer flush()
	config.Kept = keptPort(logger)
	remembered := discovery.LoadRemembered(filepath.Join(config.StateDir, "peers.json"), logger)
	config.Expect = len(remembered.Peers()) + 1
	n, err := node.New(config)
	if err != nil {
		return startError(err)
	}
	r.node = n
	keys := newKeyWatch(n.Mesh())
	d, err := newDiscovery(c, n, keys, config, r.seeds, remembered, logger)
	if err != nil {
		n.Close()
		return err
	}
	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer stop() // when the node stops by itself, so does all around it
		return n.Run(gctx)
	})
	group.Go(func() error { return d.Run(gctx) })
	group.Go(func() error { return remember(gctx, n.Mesh(), remembered, logger) })
	group.Go(func() error { return notify(gctx, n, logger) })
	group.Go(func() error { return e.report(gctx, n, config) })
	group.Go(func() error { return keys.watch(gctx, config.Cluster, logger) })
	group.Go(func() error { return nameClash(gctx, n, c.IsSet("name")) })
	if len(e.args) > 0 && !e.onTerminal() {
		group.Go(func() error { return r.run(gctx) })
	}
	return startError(group.Wait())
}

func (e environment) nodeConfig(c *cli.Context, logger *slog.Logger) (node.Config, error) {
	overrides, err := overridesOf(c)
	if err != nil {
		return node.Config{}, err
	}
	key, err := e.meshKey(c)
	if err != nil {
		return node.Config{}, err
	}
	maxBody, err := hardware.ParseSize(c.String("max-body"))
	if err != nil || maxBody == 0 {
		return node.Config{}, usage("give it as in 64MiB", "bad size '%s' for --max-body", c.String("max-body"))
	}
	door, err := e.guardConfig(c)
	if err != nil {
		return node.Config{}, err
	}
	ollama := c.String("ollama")
	if ollama == "" {
		ollama = e.getenv("OLLAMA_HOST")
	}
	return node.Config{
		Name: c.String("name"), Cluster: c.String("cluster"), StateDir: c.String("state-dir"),
		API: c.String("api-listen"), Peer: c.String("peer-listen"), Gossip: c.String("gossip-listen"),
		Advertise: c.String("advertise"), Key: key,
		Ollama: ollama, Parallel: c.Int("parallel"), MaxLoaded: c.Int("max-loaded"),
		Models: c.String("ollama-models"), NoPeers: c.Bool("no-lan-copy"), Cloud: c.Bool("share-cloud"),
		Internet:   internet(),
		Overrides:  overrides,
		MaxBody:    int64(maxBody), //nolint:gosec // ParseSize bounds it
		Grace:      c.Duration("drain-grace"),
		NoContinue: c.Bool("no-continue"), StreamIdle: c.Duration("stream-idle"),
		Guard: door, TLS: c.Bool("tls"), TLSCert: c.String("tls-cert"), TLSKey: c.String("tls-key"),
		Version: build().Version, Logger: logger,
	}, nil
}

// internet is how registries are asked for a model's size, within the limits
// that its caller sets.
func internet() http.RoundTripper {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 3 * time.Second,
		ResponseHeaderTimeout: 3 * time.Second, MaxIdleConns: 2, IdleConnTimeout: 10 * time.Second,
	}
}

func overridesOf(c *cli.Context) (hardware.Overrides, error) {
	o := hardware.Overrides{GPU: c.String("gpu"), Role: c.String("role")}
	for name, into := range map[string]*uint64{"vram": &o.VRAM, "ram": &o.RAM} {
		text := c.String(name)
		if text == "" {
			continue
		}
		size, err := hardware.ParseSize(text)
		if err != nil {
			return o, usage("give it as in 24GiB", "bad size '%s' for --%s", text, name)
		}
		*into = size
	}
	return o, nil
}

// meshKey reads the key from where it was given; a secret is never a flag's
// value, which every user of the machine could read in the process list.
func (e environment) meshKey(c *cli.Context) (mesh.Key, error) {
	text := e.getenv("KAGE_KEY")
	switch path := c.String("key-file"); path {
	case "":
	case "-":
		data, err := io.ReadAll(io.LimitReader(e.stdin, 4096))
		if err != nil {
			return mesh.Key{}, &failure{code: codeKey, cause: fmt.Errorf("cannot read the mesh key from standard input: %w", err)}
		}
		text = string(data)
	default:
		data, err := os.ReadFile(path)
		if err != nil {
			return mesh.Key{}, &failure{
				code: codeKey, cause: fmt.Errorf("cannot read the mesh key: %w", err),
				fix: "make one with 'kage-mesh keygen' and put it there, the same on every node",
			}
		}
		text = string(data)
	}
	if strings.TrimSpace(text) == "" {
		return mesh.Key{}, nil
	}
	key, err := mesh.ParseKey(text)
	if err != nil {
		return mesh.Key{}, &failure{code: codeKey, cause: err, fix: "copy the whole line that 'kage-mesh keygen' printed"}
	}
	return key, nil
}

func logLevel(c *cli.Context) (level slog.Level, err error) {
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return level, usage("use debug, info, warn or error", "bad log level '%s'", c.String("log-level"))
	}
	return level, nil
}

// logger makes the program's log; its level can be changed later. flush writes
// what it still holds.
func (e environment) logger(c *cli.Context) (logger *slog.Logger, level *slog.LevelVar, flush func(), err error) {
	first, err := logLevel(c)
	if err != nil {
		return nil, nil, nil, err
	}
	level, flush = new(slog.LevelVar), func() {}
	level.Set(first)
	options := &slog.HandlerOptions{Level: level}
	format := c.String("log-format")
	if format == "auto" {
		format = "json"
		if f, ok := e.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	switch format {
	case "text":
		logger = slog.New(slog.NewTextHandler(e.stderr, options))
	case "json":
		out := &lines{to: e.stderr}
		logger, flush = slog.New(slog.NewJSONHandler(out, options)), out.flush
	default:
		return nil, nil, nil, usage("use text, json or auto", "bad log format '%s'", c.String("log-format"))
	}
	// What libraries print by the standard logger (the mDNS one does, of
	// networks without IPv6) becomes debug lines of ours.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(logger)
	return logger, level, flush, nil
}

// startError words why a node could not start or go on.
func startError(err error) error {
	var p *node.PortError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, backend.ErrLoop):
		return &failure{
			code: codeFailure, cause: errors.New("the address given as Ollama's is a kage-mesh node: work would go round in a circle"),
			fix: "set --ollama or OLLAMA_HOST to Ollama's own address, usually 127.0.0.1:11434",
		}
	case errors.Is(err, mesh.ErrKeyFile):
		return &failure{code: codeKey, cause: err, fix: "restore the file or make it private, as the line above says"}
	case errors.As(err, &p):
		fix := fmt.Sprintf("stop what uses it, or choose another port with --%s-listen", p.What)
		if !errors.Is(err, syscall.EADDRINUSE) {
			fix = fmt.Sprintf("choose another address with --%s-listen", p.What)
		} else if p.What == "api" {
			fix = "a node may run already (kage-mesh status); else " + fix
		}
		return &failure{code: codeFailure, cause: err, fix: fix}
	}
	return err
}
