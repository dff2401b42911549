package compare

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The ways that are compared. One hop means: the client talks to a node whose
// own Ollama answers. Two hops: the client talks to a node without an Ollama,
// which forwards over the peer link (mTLS) to the node whose Ollama answers.
// Mesh: a node beside each Ollama, the clients spread over all nodes, and the
// mesh sends each request where it thinks best.
const (
	Direct  = "direct"
	Nginx   = "nginx"
	HAProxy = "haproxy"
	OneHop  = "kage-mesh, one hop"
	TwoHops = "kage-mesh, two hops"
	Whole   = "kage-mesh, mesh"
)

// errMissing says that a proxy is not installed.
var errMissing = errors.New("not installed")

// add starts one way and makes it a target of the rig; name is one of the
// above, for kage-mesh with " @label" after it for another build than the one
// to measure.
func (r *Rig) add(ctx context.Context, name string, b Binaries) error {
	base, label, _ := strings.Cut(name, " @")
	t := &target{name: name}
	r.targets = append(r.targets, t)
	kage := b.Kage[label]
	switch base {
	case Direct:
		t.endpoints = r.addrs()
		return nil
	case Nginx:
		return r.addNginx(t)
	case HAProxy:
		return r.addHAProxy(t)
	case OneHop:
		return r.kageNodes(ctx, t, kage, []int{0}, 1)
	case TwoHops:
		var nodes []int
		nodes = append(nodes, -1) // the ingress, without an Ollama
		for i := range r.fakes {
			nodes = append(nodes, i)
		}
		return r.kageNodes(ctx, t, kage, nodes, 1)
	case Whole:
		var nodes []int
		for i := range r.fakes {
			nodes = append(nodes, i)
		}
		return r.kageNodes(ctx, t, kage, nodes, len(nodes))
	}
	return fmt.Errorf("compare: no way is named %q", name)
}

// nginxConf is what people write by hand in front of their Ollamas, inside the
// settings that Debian's package has around it.
const nginxConf = `worker_processes auto;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx-error.log;
events { worker_connections 768; }
http {
  sendfile on;
  tcp_nopush on;
  types_hash_max_size 2048;
  access_log %[1]s/nginx-access.log;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  upstream ollama {
    least_conn;
%[2]s    keepalive 4;
  }
  server {
    listen 127.0.0.1:%[3]d;
    location / {
      proxy_pass http://ollama;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost;
      proxy_buffering off;
      proxy_cache off;
      proxy_read_timeout 600s;
      proxy_next_upstream error timeout http_502 http_503 http_504;
    }
  }
}
`

func (r *Rig) addNginx(t *target) error {
	bin, err := lookPath("nginx")
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	var servers strings.Builder
	for _, addr := range r.addrs() {
		fmt.Fprintf(&servers, "    server %s;\n", addr)
	}
	conf, err := r.file("nginx.conf", fmt.Sprintf(nginxConf, r.dir, servers.String(), port))
	if err != nil {
		return err
	}
	return r.run(t, port, bin, "-p", r.dir, "-c", conf, "-g", "daemon off;")
}

// haproxyConf adds what makes HAProxy good at this work: without http-no-delay
// it holds every token back for 107 ms (median).
const haproxyConf = `global
  nbthread 2
  maxconn 8192
defaults
  mode http
  timeout connect 2s
  timeout client 600s
  timeout server 600s
  option http-no-delay
  option abortonclose
  option redispatch
  http-reuse always
  retries 3
  retry-on conn-failure empty-response response-timeout 503
frontend ollama
  bind 127.0.0.1:%d
  default_backend nodes
backend nodes
  balance leastconn
  option httpchk GET /api/version
  http-request set-header Host localhost
  default-server check inter 2s fall 2 rise 1 observe layer4
%s`

func (r *Rig) addHAProxy(t *target) error {
	bin, err := lookPath("haproxy")
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	var servers strings.Builder
	for i, addr := range r.addrs() {
		fmt.Fprintf(&servers, "  server s%d %s\n", i, addr)
	}
	conf, err := r.file("haproxy.cfg", fmt.Sprintf(haproxyConf, port, servers.String()))
	if err != nil {
		return err
	}
	return r.run(t, port, bin, "-db", "-f", conf)
}

// lookPath also looks where Debian keeps servers.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path, err := exec.LookPath(filepath.Join("/usr/sbin", name)); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("%w: %s", errMissing, name)
}

func (r *Rig) run(t *target, port int, bin string, args ...string) error {
	p, err := start(r.dir, t.name, bin, args...)
	if err != nil {
		return err
	}
	t.procs = append(t.procs, p)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	t.endpoints = []string{addr}
	return r.listening(addr, p)
}

// kageNodes starts a mesh: one node per entry of nodes, which is the number of
// its fake or -1 for none. Clients talk to the first entries of them. It
// returns when all see each other and their models.
func (r *Rig) kageNodes(ctx context.Context, t *target, bin string, nodes []int, entries int) error {
	if bin == "" {
		return fmt.Errorf("%w: kage-mesh", errMissing)
	}
	var seed string
	var apis []string
	for i, fake := range nodes {
		var ports [3]int
		for j := range ports {
			var err error
			if ports[j], err = freePort(); err != nil {
				return err
			}
		}
		at := func(j int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[j])) }
		name := fmt.Sprintf("node-%d", i)
		args := []string{
			"join", "--no-mdns", "--name", name, "--state-dir", filepath.Join(r.dir, t.name, name),
			"--api-listen", at(0), "--peer-listen", at(1), "--gossip-listen", at(2),
			"--gpu", "none", "--ram", "64GiB", "--ollama", "127.0.0.1:1",
		}
		if fake >= 0 {
			f := r.fakes[fake]
			args[len(args)-1] = f.addr()
			args = append(args, "--parallel", strconv.Itoa(f.Slots))
		}
		if seed != "" {
			args = append(args, seed)
		}
		p, err := start(r.dir, t.name+"-"+name, bin, args...)
		if err != nil {
			return err
		}
		t.procs = append(t.procs, p)
		if seed == "" {
			seed = at(2)
		}
		if err := r.listening(at(0), p); err != nil {
			return err
		}
		apis = append(apis, at(0))
	}
	t.endpoints = apis[:entries]
	models := 0
	for _, f := range nodes {
		if f >= 0 {
			models += len(r.fakes[f].Models)
		}
	}
	return until(ctx, 30*time.Second, "the nodes of "+t.name+" do not see each other", func() bool {
		for _, api := range apis {
			if !complete(ctx, api, len(nodes), models) {
				return false
			}
		}
		return true
	})
}

// complete reports whether a node sees all nodes and their models.
func complete(ctx context.Context, api string, nodes, models int) bool {
	var h struct{ Online int }
	var backends []struct {
		Status string
		Models []string
	}
	if get(ctx, "http://"+api+"/health", &h) != nil || h.Online != nodes || get(ctx, "http://"+api+"/backends", &backends) != nil {
		return false
	}
	for _, b := range backends {
		if b.Status == "online" {
			models -= len(b.Models)
		}
	}
	return models == 0
}
