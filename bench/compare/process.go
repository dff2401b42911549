package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one process that this package started, with its children.
type process struct {
	name string
	cmd  *exec.Cmd
	in   io.Closer // closing it ends our own backends
	done chan struct{}
	log  string
}

// start starts a process whose output goes to a file in dir.
func start(dir, name, bin string, args ...string) (*process, error) {
	p := &process{name: name, done: make(chan struct{}), log: filepath.Join(dir, name+".log")}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(bin, args...) //nolint:noctx // stop ends it
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // how it ended does not matter
		close(p.done)
	}()
	return p, nil
}

// stop asks the process to end and, when it does not, kills it.
func (p *process) stop() {
	_ = p.in.Close()
	if p.cmd.Process.Signal(syscall.SIGTERM) == nil {
		timer := time.NewTimer(5 * time.Second)
		defer timer.Stop()
		select {
		case <-p.done:
			return
		case <-timer.C:
		}
	}
	p.kill()
}

// kill ends it at once, as a crash would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// tail is the end of what it wrote, for an error message.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	return string(b[max(0, len(b)-600):])
}

// tree lists the process and its children.
func (p *process) tree() []int {
	pids := []int{p.cmd.Process.Pid}
	for i := 0; i < len(pids); i++ {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pids[i], pids[i]))
		if err != nil {
			continue
		}
		for f := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// clockTick is USER_HZ, 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// cpuOf is the CPU time of processes and their children so far.
func cpuOf(ps []*process) (total time.Duration) {
	for _, p := range ps {
		for _, pid := range p.tree() {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				continue
			}
			_, after, _ := bytes.Cut(text, []byte(") "))
			fields := strings.Fields(string(after))
			if len(fields) < 13 {
				continue
			}
			user, _ := strconv.Atoi(fields[11])
			system, _ := strconv.Atoi(fields[12])
			total += time.Duration(user+system) * clockTick
		}
	}
	return total
}

// memoryOf is the memory of processes and their children, bytes; pages that
// several share count once (PSS).
func memoryOf(ps []*process) (total uint64) {
	for _, p := range ps {
		for _, pid := range p.tree() {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(text)) {
				if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
					kib, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
					total += kib << 10
				}
			}
		}
	}
	return total
}

// busy is the CPU time that the whole machine has spent, of all its cores.
func busy() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var sum int
	for i, f := range strings.Fields(line)[1:] {
		if n, err := strconv.Atoi(f); err == nil && i != 3 && i != 4 && i < 8 { // not idle, not waiting for a disk
			sum += n
		}
	}
	return time.Duration(sum) * clockTick
}

// Supported says why this machine cannot be measured on; nil: it can.
func Supported() error {
	if runtime.GOOS != "linux" {
		return errors.New("compare: CPU time and memory of processes are read from /proc: run it on Linux")
	}
	return nil
}

// freePort is a port of loopback that nobody listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// until polls ok until it holds, its error is final, or the limit is over.
func until(ctx context.Context, limit time.Duration, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("compare: %s within %s: %w", what, limit, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
