package router

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// FromHere reports whether a request comes from this machine, by its address
// and by the name it used: a web page that got itself resolved to 127.0.0.1
// still sends its own name as Host, and its own Origin.
func FromHere(req *http.Request) bool {
	addr, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil || !addr.Addr().Unmap().IsLoopback() {
		return false
	}
	// The node's own page names its own Origin when it loads modules.
	if origin := wire.Field(req.Header, "Origin"); origin != "" && origin != "http://"+req.Host || wire.Field(req.Header, "Sec-Fetch-Site") == "cross-site" {
		return false
	}
	host := req.Host
	if strings.IndexByte(host, ':') >= 0 {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
