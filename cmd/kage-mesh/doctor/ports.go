package doctor

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// ports tries the addresses that a node would bind and names who has those that
// are taken.
func (s System) ports(ctx context.Context, listen map[string]string) (out []Port) {
	if listen == nil {
		return nil
	}
	for _, what := range []string{"api", "peer", "gossip"} {
		addr := listen[what]
		networks := []string{"tcp"}
		if what == "gossip" {
			networks = append(networks, "udp")
		}
		for _, network := range networks {
			p := Port{What: what, Network: network, Addr: addr}
			if err := tryBind(network, addr); err != nil {
				p.Error = err.Error()
				if _, port, err := net.SplitHostPort(addr); err == nil {
					p.PID, p.Process = s.owner(ctx, network, port)
				}
			} else {
				p.Free = true
			}
			out = append(out, p)
		}
	}
	return out
}

func tryBind(network, addr string) error {
	if network == "udp" {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// owner is the process that has a port; 0 when it cannot be told, as without
// the rights to look at other users' processes.
func (s System) owner(ctx context.Context, network, port string) (pid int, name string) {
	switch runtime.GOOS {
	case "linux":
		for _, table := range []string{"/proc/net/" + network, "/proc/net/" + network + "6"} {
			text, err := s.Read(table)
			if err != nil {
				continue
			}
			if inode := socketInode(text, network, port); inode != "" {
				return processOf(inode)
			}
		}
		return 0, ""
	case "windows":
		out, err := s.Run(ctx, "netstat", "-ano", "-p", strings.ToUpper(network))
		if err != nil {
			return 0, ""
		}
		if pid = netstatOwner(out, network, port); pid == 0 {
			return 0, ""
		}
		out, _ = s.Run(ctx, "tasklist", "/FI", fmt.Sprintf("PID eq %d", pid), "/FO", "CSV", "/NH")
		return pid, taskName(out)
	}
	args := []string{"-nP", "-i" + strings.ToUpper(network) + ":" + port, "-Fpc"}
	if network == "tcp" {
		args = append(args, "-sTCP:LISTEN")
	}
	out, _ := s.Run(ctx, "lsof", args...) // it exits with 1 when it finds nothing
	return lsofOwner(out)
}

// socketInode finds the socket that is bound to a local port in a table of
// /proc/net; of TCP one that listens (state 0A).
func socketInode(table, network, port string) string {
	n, err := strconv.Atoi(port)
	if err != nil {
		return ""
	}
	suffix := fmt.Sprintf(":%04X", n)
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) > 9 && strings.HasSuffix(f[1], suffix) && (network != "tcp" || f[3] == "0A") && f[9] != "0" {
			return f[9]
		}
	}
	return ""
}

// processOf finds who has a socket open.
func processOf(inode string) (pid int, name string) {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, ""
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		pid, _ = strconv.Atoi(filepath.Base(dir))
		comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return pid, strings.TrimSpace(string(comm))
	}
	return 0, ""
}

// lsofOwner reads the output of lsof -Fpc.
func lsofOwner(out string) (pid int, name string) {
	for scan := bufio.NewScanner(strings.NewReader(out)); scan.Scan(); {
		line := scan.Text()
		switch {
		case strings.HasPrefix(line, "p"):
			pid, _ = strconv.Atoi(line[1:])
		case strings.HasPrefix(line, "c") && pid > 0:
			return pid, line[1:]
		}
	}
	return pid, ""
}

// netstatOwner reads the output of Windows' netstat -ano. Its words for states
// are translated; a listening socket has no port at the other side.
func netstatOwner(out, network, port string) int {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(strings.ToLower(f[0]), network) || !strings.HasSuffix(f[1], ":"+port) {
			continue
		}
		if network == "tcp" && !strings.HasSuffix(f[2], ":0") {
			continue
		}
		pid, _ := strconv.Atoi(f[len(f)-1])
		return pid
	}
	return 0
}

// taskName reads the output of tasklist /FO CSV.
func taskName(out string) string {
	row, err := csv.NewReader(strings.NewReader(out)).Read()
	if err != nil || len(row) < 2 {
		return ""
	}
	return row[0]
}
