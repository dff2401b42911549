package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/discovery"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

// Question says what to look at.
type Question struct {
	Ollama    string // as OLLAMA_HOST
	StateDir  string
	ModelDirs []string          // where Ollama's models may be
	Listen    map[string]string // api, peer, gossip: addresses that a node would bind; nil: one runs
	Survey    bool              // ask the local network for nodes
}

// System is what a gathering may touch; tests bring their own.
type System struct {
	Run  func(ctx context.Context, name string, args ...string) (string, error) // standard output
	Read func(path string) (string, error)
}

// NewSystem is this machine.
func NewSystem() System {
	return System{
		Run: func(ctx context.Context, name string, args ...string) (string, error) {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			path, err := exec.LookPath(name)
			if err != nil && runtime.GOOS != "windows" { // often not on a person's PATH
				if sbin, missing := exec.LookPath("/usr/sbin/" + name); missing == nil {
					path, err = sbin, nil
				}
			}
			if err != nil {
				return "", err
			}
			out, err := exec.CommandContext(ctx, path, args...).Output()
			return string(out), err
		},
		Read: func(path string) (string, error) {
			b, err := os.ReadFile(path)
			return string(b), err
		},
	}
}

// surveyFor is how long mDNS is listened to: nodes answer within 120 ms
// (RFC 6762, section 6); the rest is for a lost packet.
const surveyFor = 2 * time.Second

// Gather looks at this machine. It takes about as long as a survey.
func Gather(ctx context.Context, s System, q Question) Facts {
	f := Facts{OS: runtime.GOOS}
	f.Home, _ = os.UserHomeDir()
	var wg sync.WaitGroup
	f.Interfaces = interfacesHere()
	wg.Go(func() { f.WSL = s.wsl(ctx) })
	wg.Go(func() { f.Firewall = s.firewall(ctx, f.OS) })
	wg.Go(func() { f.Tailscale = s.tailscale(ctx) })
	wg.Go(func() { f.Ollama = askOllama(ctx, q.Ollama, f.Interfaces) })
	wg.Go(func() { f.Ports = s.ports(ctx, q.Listen) })
	if q.Survey {
		wg.Go(func() {
			f.MDNS.Ran = true
			var err error
			if f.MDNS.Heard, f.MDNS.Links, err = discovery.Survey(ctx, surveyFor); err != nil {
				f.MDNS.Error = err.Error()
			}
		})
	}
	for _, dir := range q.ModelDirs {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			f.Disks = append(f.Disks, Disk{What: "models", Dir: dir, Free: store.Free([]string{dir})})
			break
		}
	}
	if q.StateDir != "" {
		f.Disks = append(f.Disks, Disk{What: "state", Dir: q.StateDir, Free: store.Free([]string{q.StateDir})})
	}
	wg.Wait()
	return f
}

func interfacesHere() (out []Interface) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		in := Interface{Name: i.Name, MTU: i.MTU, Loopback: i.Flags&net.FlagLoopback != 0}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				in.Addrs = append(in.Addrs, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()))
			}
		}
		out = append(out, in)
	}
	return out
}

// wsl is the networking mode of a WSL machine, "" elsewhere.
func (s System) wsl(ctx context.Context) string {
	release, err := s.Read("/proc/sys/kernel/osrelease")
	if err != nil || !strings.Contains(strings.ToLower(release), "microsoft") {
		return ""
	}
	mode, err := s.Run(ctx, "wslinfo", "--networking-mode")
	if mode = strings.TrimSpace(mode); err != nil || mode == "" {
		return "unknown"
	}
	return strings.ToLower(mode)
}

func (s System) tailscale(ctx context.Context) (t Tailscale) {
	out, err := s.Run(ctx, "tailscale", "status", "--json")
	if errors.Is(err, exec.ErrNotFound) {
		return t
	}
	t.Installed = true
	var status struct {
		BackendState string
		Peer         map[string]struct{ Online bool }
	}
	if json.Unmarshal([]byte(out), &status) != nil || status.BackendState == "" {
		t.State = "Stopped"
		return t
	}
	t.State = status.BackendState
	for _, p := range status.Peer {
		if p.Online {
			t.Peers++
		}
	}
	return t
}

// askOllama asks Ollama who it is, and whether it answers on the network, too.
func askOllama(ctx context.Context, host string, ifs []Interface) Ollama {
	u, err := backend.ParseHost(host)
	if err != nil {
		return Ollama{URL: host, Error: err.Error()}
	}
	o := Ollama{URL: u.String()}
	client := backend.NewClient(u, nil)
	defer client.CloseIdle()
	if o.Version, err = client.Version(ctx); err != nil {
		o.Error = err.Error()
		o.Refused = errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.Errno(10061)) // WSAECONNREFUSED
		return o
	}
	if o.Loop, err = client.Loop(ctx); err == nil && o.Loop {
		return o
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if err == nil && !ip.IsLoopback() && !slicesOwn(ifs, ip) {
		return o // another machine's
	}
	var mu sync.Mutex // guards o.Exposed
	var wg sync.WaitGroup
	for _, i := range ifs {
		if i.Loopback {
			continue
		}
		for _, p := range i.Addrs {
			if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				continue
			}
			wg.Go(func() {
				at := net.JoinHostPort(p.Addr().String(), cmp.Or(u.Port(), backend.DefaultPort))
				if answersAsOllama(ctx, at) {
					mu.Lock()
					defer mu.Unlock()
					o.Exposed = append(o.Exposed, at)
				}
			})
		}
	}
	wg.Wait()
	return o
}

func answersAsOllama(ctx context.Context, at string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	u, err := backend.ParseHost(at)
	if err != nil {
		return false
	}
	c := backend.NewClient(u, nil)
	defer c.CloseIdle()
	_, err = c.Version(ctx)
	return err == nil
}

func slicesOwn(ifs []Interface, ip netip.Addr) bool { return Facts{Interfaces: ifs}.own(ip) }
