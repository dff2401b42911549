package discovery

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// TailnetConfig says how [NewTailnet] looks for peers. The zero value works.
type TailnetConfig struct {
	Port   int           // gossip port to try on each machine; 0 is DefaultPort
	Tag    string        // only machines with this ACL tag, such as "tag:kage"; "" is all that could run a node
	Every  time.Duration // between looks; 0 is 60 s. Ten times that while there is no Tailscale
	Logger *slog.Logger  // nil discards

	// Status returns what `tailscale status --json` prints. Nil runs the
	// command, from PATH or where its installers put it.
	Status func(ctx context.Context) ([]byte, error)
}

// Tailnet is the [Source] for machines of the same tailnet, over which no
// multicast goes. Most of them run no node, so its offers are guesses: they
// count as found only when their gossip port has answered.
type Tailnet struct {
	cfg TailnetConfig
	log *slog.Logger
}

// Bounds of Tailnet.
const (
	maxTailnet       = 256      // machines offered; a tailnet with more wants a tag or seeds
	maxTailnetStatus = 32 << 20 // bytes of status read; about 2 kB a machine
	statusTimeout    = 10 * time.Second
)

// ErrNoTailscale is what a TailnetConfig.Status returns where there is no
// Tailscale. It is never reported: most machines have none.
var ErrNoTailscale = errors.New("discovery: no tailscale here")

// NewTailnet makes a tailnet source; it starts nothing.
func NewTailnet(cfg TailnetConfig) *Tailnet {
	cfg.Port = cmp.Or(cfg.Port, DefaultPort)
	if cfg.Every <= 0 {
		cfg.Every = time.Minute
	}
	if cfg.Status == nil {
		cfg.Status = tailscaleStatus
	}
	return &Tailnet{cfg: cfg, log: logger(cfg.Logger)}
}

// Run offers the machines of the tailnet that are online until ctx ends.
func (t *Tailnet) Run(ctx context.Context, found func(Peer)) error {
	for reported := ""; ; {
		peers, err := t.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		for _, ip := range peers {
			found(Peer{Addr: netip.AddrPortFrom(ip, uint16(t.cfg.Port)).String(), Source: SourceTailnet}) //nolint:gosec // a port
		}
		wait, now := t.cfg.Every, ""
		switch {
		case errors.Is(err, ErrNoTailscale):
			wait *= 10 // it may be installed later, which is no reason to look often
		case err != nil:
			now = err.Error()
		}
		if now != reported && now != "" {
			t.log.Warn("tailnet cannot be read", "err", err)
		}
		reported = now
		if !sleep(ctx, spread(wait, rand.Float64())) {
			return nil
		}
	}
}

func (t *Tailnet) look(ctx context.Context) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	data, err := t.cfg.Status(ctx)
	if err != nil {
		return nil, err
	}
	return parseTailnet(data, t.cfg.Tag)
}

// tailnetStatus is the little we read of `tailscale status --json`. Its help
// calls the format subject to change; what is missing reads as zero.
type tailnetStatus struct {
	BackendState string
	Self         *tailnetMachine
	Peer         map[string]*tailnetMachine
}

type tailnetMachine struct {
	OS           string
	TailscaleIPs []string
	Tags         []string
	Online       bool
	Expired      bool // its key; it cannot be reached
	ShareeNode   bool // may reach us by sharing, not we it
}

// parseTailnet lists one address of each machine that is online and could run
// a node, in order. A tailnet that is not up has none. With tag only machines
// that carry it.
func parseTailnet(data []byte, tag string) ([]netip.Addr, error) {
	var s tailnetStatus
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("discovery: tailscale status: %w", err)
	}
	if s.BackendState != "Running" {
		return nil, nil
	}
	self := map[netip.Addr]bool{}
	if s.Self != nil {
		for _, a := range s.Self.TailscaleIPs {
			if ip, err := netip.ParseAddr(a); err == nil {
				self[ip.Unmap()] = true
			}
		}
	}
	var ips []netip.Addr
	for _, m := range s.Peer {
		if m == nil || !m.mayRunNode(tag) {
			continue
		}
		// One address is enough: all of a machine's lead down the same tunnel.
		for _, a := range m.TailscaleIPs {
			ip, err := netip.ParseAddr(a)
			if err != nil || !dialable(ip.Unmap()) || ip.Zone() != "" {
				continue
			}
			if !self[ip.Unmap()] {
				ips = append(ips, ip.Unmap())
			}
			break
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	ips = slices.Compact(ips)
	return ips[:min(len(ips), maxTailnet)], nil
}

// mayRunNode leaves out machines that cannot run a node. A tailnet with the
// Mullvad add-on lists several hundred exit nodes as online peers; knocking at
// those would be both useless and rude.
func (m *tailnetMachine) mayRunNode(tag string) bool {
	if !m.Online || m.Expired || m.ShareeNode {
		return false
	}
	switch m.OS {
	case "iOS", "android", "tvOS", "watchOS":
		return false
	}
	if tag != "" {
		return slices.Contains(m.Tags, tag)
	}
	return !slices.Contains(m.Tags, "tag:mullvad-exit-node")
}

// tailscaleStatus runs the command.
func tailscaleStatus(ctx context.Context) ([]byte, error) {
	path := tailscalePath()
	if path == "" {
		return nil, ErrNoTailscale
	}
	out := &boundedBuffer{limit: maxTailnetStatus}
	cmd := exec.CommandContext(ctx, path, "status", "--json")
	cmd.Stdout = out
	cmd.WaitDelay = time.Second // a grandchild that keeps the pipe must not keep us
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("discovery: tailscale status: %w", err)
	}
	return out.buf.Bytes(), nil
}

// tailscalePath finds the command: services often run with a short PATH, and
// on a Mac the app does not put it there at all.
func tailscalePath() string {
	if p, err := exec.LookPath("tailscale"); err == nil {
		return p
	}
	var usual []string
	switch runtime.GOOS {
	case "darwin":
		usual = []string{"/Applications/Tailscale.app/Contents/MacOS/Tailscale", "/usr/local/bin/tailscale", "/opt/homebrew/bin/tailscale"}
	case "windows":
		usual = []string{filepath.Join(os.Getenv("ProgramFiles"), "Tailscale", "tailscale.exe")}
	default:
		usual = []string{"/usr/bin/tailscale", "/usr/local/bin/tailscale"}
	}
	for _, p := range usual {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() { //nolint:gosec // one of a fixed list; ProgramFiles is the system's
			return p
		}
	}
	return ""
}

// boundedBuffer refuses to grow beyond limit. The buffer is not embedded: its
// ReadFrom would be promoted, and io.Copy would go round Write and the limit.
type boundedBuffer struct {
	buf   bytes.Buffer
	limit int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > b.limit {
		return 0, fmt.Errorf("discovery: more than %d bytes", b.limit)
	}
	return b.buf.Write(p)
}
