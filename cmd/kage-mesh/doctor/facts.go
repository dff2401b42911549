package doctor

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/discovery"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// Facts are all that the checks look at.
type Facts struct {
	OS   string `json:"os"` // runtime.GOOS
	WSL  string `json:"wsl,omitempty"`
	Home string `json:"-"` // not for a bundle

	Interfaces []Interface `json:"interfaces"`
	Firewall   Firewall    `json:"firewall"`
	Tailscale  Tailscale   `json:"tailscale"`
	Ports      []Port      `json:"ports"` // of a node that would start now; nil while one runs
	Ollama     Ollama      `json:"ollama"`
	Disks      []Disk      `json:"disks"`
	Config     Config      `json:"config"`
	MDNS       MDNS        `json:"mdns"`

	// Node is the running node; nil: NodeError says why there is none.
	Node      *Node  `json:"node,omitempty"`
	NodeError string `json:"node_error,omitempty"`
	Endpoint  string `json:"endpoint"` // client address that was asked
}

// Node is what the running node says.
type Node struct {
	Checkup admin.Checkup `json:"checkup"`
	Members admin.Members `json:"members"`
	Models  admin.Models  `json:"models"`
}

// Interface is a network interface that is up.
type Interface struct {
	Name     string         `json:"name"`
	MTU      int            `json:"mtu"`
	Loopback bool           `json:"loopback,omitempty"`
	Addrs    []netip.Prefix `json:"addresses"`
}

// virtual reports whether an interface leads into this machine only.
func (i Interface) virtual() bool {
	return slices.ContainsFunc([]string{"docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "lxcbr", "lxdbr", "cni", "podman", "vethernet"},
		func(p string) bool { return strings.HasPrefix(strings.ToLower(i.Name), p) })
}

// Firewall is the packet filter of this machine.
type Firewall struct {
	Tool   string `json:"tool,omitempty"` // ufw, firewalld, nftables, iptables, macos, windows; "" none found
	Active bool   `json:"active"`
	Chain  string `json:"chain,omitempty"` // of nftables and iptables: what takes incoming packets, "inet filter input"
}

// Tailscale is the state of its client.
type Tailscale struct {
	Installed bool   `json:"installed"`
	State     string `json:"state,omitempty"` // Running, Stopped, NeedsLogin ...
	Peers     int    `json:"peers,omitempty"` // online
}

// Port is a port that a node would bind.
type Port struct {
	What    string `json:"what"`    // api, peer, gossip
	Network string `json:"network"` // tcp, udp
	Addr    string `json:"address"`
	Free    bool   `json:"free"`
	Error   string `json:"error,omitempty"`
	PID     int    `json:"pid,omitempty"` // of who has it; 0 unknown
	Process string `json:"process,omitempty"`
}

// Ollama is the local Ollama as a client sees it.
type Ollama struct {
	URL     string   `json:"url"`
	Error   string   `json:"error,omitempty"` // why it does not answer
	Refused bool     `json:"refused,omitempty"`
	Version string   `json:"version,omitempty"`
	Loop    bool     `json:"loop,omitempty"`    // a kage-mesh answers there
	Exposed []string `json:"exposed,omitempty"` // addresses of this machine, not loopback, at which it answers
}

// Disk is a directory and the room on its disk.
type Disk struct {
	What string `json:"what"` // models, state
	Dir  string `json:"dir"`
	Free uint64 `json:"free"` // bytes, 0 unknown
}

// Config is what the configuration here says.
type Config struct {
	Error    string          `json:"error,omitempty"`
	Fix      string          `json:"fix,omitempty"`
	Path     string          `json:"path,omitempty"`
	Settings []admin.Setting `json:"settings,omitempty"`
	Strange  []string        `json:"strange,omitempty"` // KAGE_ variables that nothing reads, with the name meant
}

// MDNS is what a survey of the local network heard.
type MDNS struct {
	Ran   bool              `json:"ran"`
	Error string            `json:"error,omitempty"`
	Links []string          `json:"links,omitempty"`
	Heard []discovery.Heard `json:"heard,omitempty"`
}

// self is the member that is this node.
func (f Facts) self() admin.Member {
	if f.Node != nil {
		for _, m := range f.Node.Members.Members {
			if m.Self {
				return m
			}
		}
	}
	return admin.Member{}
}

// alive are the members that are there, this node first.
func (f Facts) alive() (out []admin.Member) {
	if f.Node == nil {
		return nil
	}
	for _, m := range f.Node.Members.Members {
		if m.Status == "alive" || m.Status == "draining" {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b admin.Member) int {
		switch {
		case a.Self == b.Self:
			return 0
		case a.Self:
			return -1
		}
		return 1
	})
	return out
}

// osOf is the operating system of a member, this machine's when unknown.
func (f Facts) osOf(m admin.Member) string {
	if m.Hardware != nil && m.Hardware.OS != "" {
		return m.Hardware.OS
	}
	return f.OS
}

// on names a member for Finding.On: "" for this machine.
func on(m admin.Member) string {
	if m.Self {
		return ""
	}
	return m.Name
}

// own reports whether ip is an address of this machine.
func (f Facts) own(ip netip.Addr) bool {
	for _, i := range f.Interfaces {
		for _, p := range i.Addrs {
			if p.Addr() == ip {
				return true
			}
		}
	}
	return false
}

// lanAddr is the address of this machine that others most likely reach.
func (f Facts) lanAddr() string {
	for _, i := range f.Interfaces {
		if i.Loopback || i.virtual() {
			continue
		}
		for _, p := range i.Addrs {
			if p.Addr().Is4() && !p.Addr().IsLinkLocalUnicast() {
				return p.Addr().String()
			}
		}
	}
	return "ADDRESS"
}
