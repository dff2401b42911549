package main

import (
	"net/netip"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/guard"
)

// doorFlags are the flags of join that say who may come in by the client port.
func doorFlags() []cli.Flag {
	list := func(name, env, usage string) cli.Flag {
		return &cli.StringSliceFlag{Name: name, EnvVars: []string{env}, Usage: usage}
	}
	return []cli.Flag{
		&cli.BoolFlag{Name: "require-key", EnvVars: []string{"KAGE_REQUIRE_KEY"}, Usage: "clients from the network need an API key (kage-mesh apikeys add) even while there is none"},
		list("allow", "KAGE_ALLOW", "`CIDR` of a network whose clients need no key to run models"),
		list("host", "KAGE_HOST", "`NAME` by which clients reach this node, beside its hostname and local names"),
		list("origins", "KAGE_ORIGINS", "`ORIGIN` of web pages that may call this node, beside those of OLLAMA_ORIGINS and Ollama's defaults"),
		&cli.BoolFlag{Name: "tls", EnvVars: []string{"KAGE_TLS"}, Usage: "speak https on the client port, with a certificate made here unless --tls-cert names one"},
		&cli.StringFlag{Name: "tls-cert", EnvVars: []string{"KAGE_TLS_CERT"}, Usage: "certificate `FILE` of the client port, PEM"},
		&cli.StringFlag{Name: "tls-key", EnvVars: []string{"KAGE_TLS_KEY"}, Usage: "key `FILE` of that certificate, PEM"},
	}
}

// guardConfig reads the flags above.
func (e environment) guardConfig(c *cli.Context) (guard.Config, error) {
	g := guard.Config{RequireKey: c.Bool("require-key"), Hosts: c.StringSlice("host"), Origins: c.StringSlice("origins")}
	for _, text := range c.StringSlice("allow") {
		prefix, err := parseNetwork(text)
		if err != nil {
			return g, usage("give it as in 192.168.1.0/24 or 10.0.0.7", "bad network '%s' for --allow", text)
		}
		g.Trusted = append(g.Trusted, prefix)
	}
	if text := e.getenv("OLLAMA_ORIGINS"); text != "" {
		g.Origins = append(g.Origins, strings.Split(text, ",")...)
	}
	if (c.String("tls-cert") == "") != (c.String("tls-key") == "") {
		return g, usage("give both, or --tls alone for a certificate made here", "--tls-cert and --tls-key belong together")
	}
	if _, err := guard.New(g); err != nil {
		return g, usage("see 'kage-mesh join --help'", "%w", err)
	}
	return g, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	text = strings.TrimSpace(text)
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, err
	}
	return p.Masked(), nil
}
