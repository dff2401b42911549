package main

import (
	"errors"
	"net"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// defaultAPI is where a node listens for clients unless it is told otherwise.
const defaultAPI = "127.0.0.1:11435"

// apiFlag names the node that a command talks to.
func apiFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "api", Value: defaultAPI, EnvVars: []string{"KAGE_API"},
		Usage: "client address of the node to ask; a node answers its own machine only",
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "one JSON document (keys are only ever added)"}
}

// adminClient is the client for the node that --api names.
func adminClient(c *cli.Context) (admin.Client, error) { return clientOf(c.String("api")) }

func clientOf(addr string) (admin.Client, error) {
	if strings.HasPrefix(addr, "http://") || strings.HasPrefix(addr, "https://") {
		return admin.Client{Base: addr}, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return admin.Client{}, usage("give it as host:port, as in --api 127.0.0.1:11435", "bad address '%s' in --api", addr)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return admin.Client{Base: "http://" + net.JoinHostPort(host, port)}, nil
}

// adminError words what went wrong when talking to the node.
func adminError(err error) error {
	if errors.Is(err, admin.ErrNotRunning) {
		return &failure{
			code: codeNotRunning, cause: err,
			fix: "start one with 'kage-mesh join', or name its client address with --api",
		}
	}
	return err
}
