//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

const ollamaAddr = "127.0.0.1:11434"

// ward is a mesh of two hosts that are well.
func ward(t *testing.T, hosts int) (l *lab.Lab, a, b *patient) {
	need.NotShort(t, "hosts in namespaces")
	l = lab.Up(t, hosts)
	a, b = newPatient(t, l.Node(1)), newPatient(t, l.Node(2))
	for _, p := range []*patient{a, b} {
		p.runOllama(ollamaAddr, hasGPU)
		t.Cleanup(p.stopOllama)
		p.start()
	}
	await(t, patience, "two members", func() bool { return a.alive() == 2 && b.alive() == 2 })
	a.isWell()
	b.isWell()
	return l, a, b
}

// Each fault is seeded in a mesh that is well; doctor finds it, the test does
// what the fix says, and doctor finds nothing any more.
func TestDoctorFindsWhatIsWrongWithOllama(t *testing.T) {
	_, a, b := ward(t, 2)
	for _, tt := range []struct {
		name       string
		seed, mend func()
		check      string
		evidence   string
		fix        string
	}{
		{
			"it does not run", a.stopOllama, func() { a.runOllama(ollamaAddr, hasGPU) },
			"ollama", "nothing listens at http://127.0.0.1:11434", "ollama serve",
		},
		{
			"it has a known hole", func() { c := hasGPU; c.Reports = "0.17.0"; a.runOllama(ollamaAddr, c) }, func() { a.runOllama(ollamaAddr, hasGPU) },
			"ollama-version", "Ollama 0.17.0 has a known hole: CVE-2026-7482", "install.sh",
		},
		{
			"it answers the network", func() { a.runOllama("0.0.0.0:11434", hasGPU) }, func() { a.runOllama(ollamaAddr, hasGPU) },
			"ollama-exposed", a.IP().String() + ":11434", "OLLAMA_HOST",
		},
		{
			"it lost the GPU", func() { c := hasGPU; c.VRAM = 0; a.runOllama(ollamaAddr, c); a.loaded() },
			func() { a.runOllama(ollamaAddr, hasGPU); a.loaded() },
			"gpu", "alpha: small:latest runs on the CPU, though there is a RTX 4090", "systemctl restart ollama",
		},
		{
			"a model is another one elsewhere", func() {
				c := hasGPU
				c.Models = []ollamatest.Model{smallModel("1")}
				b.runOllama(ollamaAddr, c)
			}, func() { b.runOllama(ollamaAddr, hasGPU) },
			"digest", "small:latest is not the same everywhere", "kage-mesh models sync",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a.t, b.t = t, t
			tt.seed()
			a.finds(tt.check, tt.evidence, tt.fix)
			tt.mend()
			a.isWell()
		})
	}
}

func TestDoctorFindsWhatIsWrongWithTheNetwork(t *testing.T) {
	l, a, b := ward(t, 2)
	for _, tt := range []struct{ name, match, evidence, fix string }{
		{"UDP is filtered", "udp dport 11437", "no datagram of beta reaches this node", "nft insert rule inet guard input udp dport 11437 accept"},
		{"the gossip port is filtered", "tcp dport 11437", "beta cannot connect to this node's gossip port 11437", "tcp dport 11437 accept"},
		{"the peer port is filtered", "tcp dport 11436", "beta cannot connect to this node's peer port 11436", "tcp dport 11436 accept"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a.t, b.t = t, t
			a.filter(tt.match)
			t.Cleanup(a.unfilter)
			a.do(a.finds("peer", tt.evidence, tt.fix).Fix)
			a.isWell()
		})
	}
	t.Run("mDNS is filtered", func(t *testing.T) {
		a.t, b.t = t, t
		a.filter("udp dport 5353")
		t.Cleanup(a.unfilter)
		a.do(a.finds("mdns", "this node cannot be heard", "nft insert rule inet guard input udp dport 5353 accept").Fix)
		a.isWell()
	})
	t.Run("large packets vanish", func(t *testing.T) {
		a.t, b.t = t, t
		l.MTU(2, 1000)
		a.finds("peer", "beta", "mtu 1500")
		l.MTU(2, 1500)
		a.isWell()
	})
	t.Run("multicast does not pass", func(t *testing.T) {
		a.t, b.t = t, t
		l.NoMulticast(2)
		fix := a.finds("mdns", "beta not heard, though on this network", "kage-mesh join "+b.IP().String()).Fix
		a.stop()
		a.start(joinArgs(t, fix)...)
		a.isWell()
		l.Heal()
		a.stop()
		a.start()
		a.isWell()
	})
	t.Run("a node is dead", func(t *testing.T) {
		a.t, b.t = t, t
		b.Proc.Kill()
		a.finds("peer", "beta does not answer", "kage-mesh join")
		b.start()
		a.isWell()
	})
	t.Run("the others are told a wrong address", func(t *testing.T) {
		a.t, b.t = t, t
		a.stop()
		a.start("--advertise", "10.99.0.1", b.IP().String())
		await(t, patience, "a node that answers", func() bool { return a.alive() > 0 })
		fix := a.finds("address", "10.99.0.1, which is no address of this machine", "kage-mesh join --advertise "+a.IP().String()).Fix
		a.Proc.Kill() // its goodbye goes elsewhere, too
		a.start(joinArgs(t, fix)...)
		a.isWell()
		b.isWell()
	})
}

func TestDoctorFindsWhatIsWrongWithTheNode(t *testing.T) {
	l, a, b := ward(t, 3)
	config := filepath.Join(a.configDir(), "config.yaml")
	write := func(t *testing.T, text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a setting is misspelt", func(t *testing.T) {
		a.t, b.t = t, t
		write(t, "cluser: home\n")
		fix := a.finds("config", "config.yaml:1: unknown setting 'cluser'", "did you mean 'cluster'?").Fix
		write(t, strings.Split(fix, "'")[1]+": home\n")
		a.isWell()
	})
	t.Run("the configuration was changed and not read", func(t *testing.T) {
		a.t, b.t = t, t
		a.stop()
		a.start()
		a.isWell()
		write(t, "cluster: home\nmax-body: 32MiB\n")
		a.finds("config", `max-body is "32MiB"`, "reload")
		a.Proc.Signal(syscall.SIGHUP)
		a.isWell()
		if err := os.Remove(config); err != nil {
			t.Fatal(err)
		}
		a.stop()
		a.start()
		a.isWell()
	})
	t.Run("a variable is misspelt", func(t *testing.T) {
		a.t, b.t = t, t
		a.finds("config", "KAGE_CLUSER", "unset KAGE_CLUSER; export KAGE_CLUSTER", "KAGE_CLUSER=home")
		a.isWell("KAGE_CLUSTER=home")
	})
	t.Run("another program has the port", func(t *testing.T) {
		a.t, b.t = t, t
		a.stop()
		squatter := a.taken("0.0.0.0:11435")
		defer squatter.Close()
		self := filepath.Base(os.Args[0])
		self = self[:min(len(self), 15)] // the kernel keeps no more
		a.finds("ports", fmt.Sprintf("api port 11435 (tcp) is taken by %s, pid %d", self, os.Getpid()), fmt.Sprintf("kill %d", os.Getpid()))
		_ = squatter.Close() // the fix would end this test
		a.start()
		a.isWell()
	})
	t.Run("too few descriptors", func(t *testing.T) {
		a.t, b.t = t, t
		a.stop()
		a.startBy([]string{"sh", "-c", `ulimit -n 256; exec "$@"`, "sh"}, "--name", a.name())
		fix := a.finds("descriptors", "the node may open 256 files", "LimitNOFILE=65536").Fix
		a.stop()
		raise, _, _ := strings.Cut(command(fix), " && ")
		a.startBy([]string{"bash", "-c", raise + ` && ulimit -Sn 65536; exec "$@"`, "bash"}, "--name", a.name())
		a.isWell()
	})
	t.Run("two nodes have one name", func(t *testing.T) {
		a.t, b.t = t, t
		a.stop()
		b.stop()
		a.startBy(nil)
		b.startBy(nil)
		await(t, patience, "two members", func() bool { return a.alive() == 2 })
		found := a.finds("name", "2 nodes call themselves", "kage-mesh join --name")
		twin := b
		if found.On == "" {
			twin = a
		}
		twin.stop()
		twin.startBy(nil, joinArgs(t, found.Fix)...)
		a.isWell()
		a.stop()
		b.stop()
		a.start()
		b.start()
		a.isWell()
	})
	t.Run("the disk is full", func(t *testing.T) {
		a.t, b.t = t, t
		dir := filepath.Join(a.State, "models")
		disk := func(options string) {
			t.Helper()
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "none", dir).CombinedOutput(); err != nil {
				t.Fatalf("mount: %v\n%s", err, out)
			}
		}
		disk("size=64g") // of address space; nothing is written
		t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
		a.stop()
		a.start("--ollama-models", dir)
		a.isWell()
		disk("remount,size=5m")
		a.finds("disk", "only 5.0 MiB free for the models in "+dir, "ollama rm")
		disk("remount,size=64g")
		a.isWell()
		a.stop()
		a.start()
		a.isWell()
	})
	c := newPatient(t, l.Node(3))
	c.runOllama(ollamaAddr, hasGPU)
	t.Cleanup(c.stopOllama)
	t.Run("a node is in another cluster", func(t *testing.T) {
		a.t, b.t, c.t = t, t, t
		c.start("--cluster", "hme")
		await(t, patience, "a node that answers", func() bool { return c.alive() == 1 })
		fix := c.finds("stranger", "is in another cluster than this one's \"hme\": home", "kage-mesh join --cluster home").Fix
		c.stop()
		c.start(joinArgs(t, fix)...)
		await(t, patience, "three members", func() bool { return c.alive() == 3 })
		c.isWell()
		a.isWell()
		c.stop()
		a.isWell()
	})
	t.Run("a node has no key", func(t *testing.T) {
		a.t, b.t, c.t = t, t, t
		file := keyFile(t, mesh.NewKey())
		c.start("--key-file", file)
		await(t, patience, "a node that answers", func() bool { return c.alive() == 1 })
		fix := a.finds("stranger", "is in a mesh with a key", "kage-mesh join --key-file FILE").Fix
		for _, p := range []*patient{a, b} {
			_ = p.Proc.Stop() // one that is left alone beside a keyed mesh ends by itself, in an error
			p.start(strings.Fields(strings.ReplaceAll(strings.Join(joinArgs(t, fix), " "), "FILE", file))...)
		}
		await(t, patience, "three members", func() bool { return a.alive() == 3 })
		a.isWell()
	})
}

// The nodes are measured alone and at once; machines of their own do not slow
// each other.
func TestDoctorMeasuresTheNodes(t *testing.T) {
	_, a, _ := ward(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := a.Command(ctx, binary, "doctor", "--scope", "parallel")
	cmd.Env = a.env()
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "2 at once: ") || !strings.Contains(string(out), "beta: ") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
