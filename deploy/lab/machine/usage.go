//go:build linux

package machine

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Memory is what the host's node holds now, and the most that it ever held, in
// MiB.
func (m *Machine) Memory() (now, peak int) {
	m.t.Helper()
	data := m.about("status")
	of := func(name string) int {
		_, rest, _ := strings.Cut(string(data), name)
		kib, _ := strconv.Atoi(strings.Fields(rest)[0])
		return kib >> 10
	}
	return of("VmRSS:"), of("VmHWM:")
}

// CPU is the time that the host's node has computed.
func (m *Machine) CPU() time.Duration {
	m.t.Helper()
	data := m.about("stat")
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// about reads a file of proc(5) on the node.
func (m *Machine) about(file string) []byte {
	m.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", m.Proc.Pid(), file))
	if err != nil {
		m.t.Fatal(err)
	}
	return data
}
