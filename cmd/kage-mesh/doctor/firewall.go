package doctor

import (
	"context"
	"encoding/json"
	"strings"
)

// firewall finds out which packet filter is active. Most of them say so to
// everybody, nftables to root alone.
func (s System) firewall(ctx context.Context, os string) Firewall {
	switch os {
	case "darwin":
		out, err := s.Run(ctx, "/usr/libexec/ApplicationFirewall/socketfilterfw", "--getglobalstate")
		return Firewall{Tool: "macos", Active: err == nil && (strings.Contains(out, "State = 1") || strings.Contains(out, "State = 2"))}
	case "windows":
		out, err := s.Run(ctx, "netsh", "advfirewall", "show", "currentprofile", "state")
		return Firewall{Tool: "windows", Active: err == nil && strings.Contains(strings.ToUpper(out), "ON")}
	}
	if conf, err := s.Read("/etc/ufw/ufw.conf"); err == nil && ufwEnabled(conf) {
		return Firewall{Tool: "ufw", Active: true}
	}
	if out, err := s.Run(ctx, "firewall-cmd", "--state"); err == nil && strings.TrimSpace(out) == "running" {
		return Firewall{Tool: "firewalld", Active: true}
	}
	if out, err := s.Run(ctx, "nft", "-j", "list", "ruleset"); err == nil {
		return nftFirewall([]byte(out))
	}
	return Firewall{}
}

func ufwEnabled(conf string) bool {
	for line := range strings.Lines(conf) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && key == "ENABLED" {
			return strings.EqualFold(value, "yes")
		}
	}
	return false
}

// nftFirewall finds the chain that filters incoming packets: one that hooks
// input and drops by its policy or by a rule. The tables that iptables makes are
// told by the name of their chain, which is in capitals.
func nftFirewall(ruleset []byte) Firewall {
	var doc struct {
		Nftables []struct {
			Chain *struct {
				Family, Table, Name, Hook, Policy string
			}
			Rule *struct {
				Family, Table, Chain string
				Expr                 []map[string]json.RawMessage
			}
		}
	}
	if json.Unmarshal(ruleset, &doc) != nil {
		return Firewall{}
	}
	drops := map[string]bool{}
	for _, o := range doc.Nftables {
		if r := o.Rule; r != nil {
			for _, e := range r.Expr {
				_, drop := e["drop"]
				_, reject := e["reject"]
				if drop || reject {
					drops[r.Family+" "+r.Table+" "+r.Chain] = true
				}
			}
		}
	}
	for _, o := range doc.Nftables {
		c := o.Chain
		if c == nil || c.Hook != "input" {
			continue
		}
		chain := c.Family + " " + c.Table + " " + c.Name
		if c.Policy != "drop" && !drops[chain] {
			continue
		}
		if c.Name == "INPUT" && (c.Family == "ip" || c.Family == "ip6") {
			return Firewall{Tool: "iptables", Active: true, Chain: chain}
		}
		return Firewall{Tool: "nftables", Active: true, Chain: chain}
	}
	return Firewall{}
}
