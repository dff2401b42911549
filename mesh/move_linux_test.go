package mesh

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// inNamespace reports whether this process is the one inside a network
// namespace of its own. Elsewhere it runs the test there, and the test is over.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const mark = "KAGE_MESH_TEST_NAMESPACE"
	if os.Getenv(mark) == t.Name() {
		return true
	}
	cannot := t.Skipf
	if os.Getenv("CI") == "true" {
		cannot = t.Fatalf
	}
	if _, err := exec.LookPath("ip"); err != nil {
		cannot("needs the ip command: %v", err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		cannot("needs a network namespace: %v", err)
	}
	t.Logf("in a network namespace:\n%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// A laptop that is carried to another network takes its id along.
func TestMachineMovesToAnotherNetwork(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const home, away = "10.1.0.1", "10.1.0.2"
	ip(t, "link", "set", "lo", "up")
	ip(t, "address", "add", "10.1.0.9/32", "dev", "lo")
	ip(t, "address", "add", home+"/32", "dev", "lo")
	meshes := pair(t, func(i int, c *Config) {
		c.Bind = []netip.AddrPort{netip.MustParseAddrPort("10.1.0.9:0"), {}}[i]
	}, func(_ int, m *Mesh) { m.moveEvery = 20 * time.Millisecond })
	other, laptop := meshes[0], meshes[1]
	at := func(addr string, s Status) func(*View) bool {
		return func(v *View) bool {
			m, ok := v.Member(laptop.ID())
			return ok && m.Status == s && m.Addr.Addr().String() == addr
		}
	}
	await(t, other, "the laptop at home", at(home, Alive))
	v := await(t, laptop, "the other", func(v *View) bool { m, ok := v.Member(other.ID()); return ok && m.Load != nil })
	m, _ := v.Member(other.ID())
	life := m.Context()

	ip(t, "address", "add", away+"/32", "dev", "lo")
	ip(t, "address", "del", home+"/32", "dev", "lo")
	begin := time.Now()
	await(t, other, "the laptop elsewhere", at(away, Alive))
	t.Logf("seen at its new address after %v", time.Since(begin).Round(time.Millisecond))
	if err := life.Err(); err != nil {
		t.Errorf("for the laptop the other one died: %v", context.Cause(life))
	}
	if got := laptop.Addr().Addr().String(); got != away {
		t.Errorf("the laptop says it is at %v", got)
	}
	laptop.Publish(Load{Up: true, Running: 9})
	await(t, other, "a load from there", func(v *View) bool {
		m, _ := v.Member(laptop.ID())
		return m.Load != nil && m.Load.Running == 9
	})
	if _, err := net.Dial("tcp", home+":1"); err == nil {
		t.Error("the old address answers: the test proves nothing")
	}
}
