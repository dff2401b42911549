package hardware

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
)

// System is the machine as the readers see it: files below Root, commands,
// and on Windows two calls that are neither. Tests fill it with captured text.
// Nil functions mean that this machine has nothing of that kind.
type System struct {
	Root   string // "" is "/"; prefixed to every file read, never to commands
	GOOS   string
	GOARCH string
	CPUs   int // logical processors as the Go runtime counts them; 0 unknown

	// Run starts a command and returns its standard output. It must honour
	// ctx. Output may come with an error (exit status not 0).
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)
	// LookPath finds a command in PATH, as exec.LookPath.
	LookPath func(name string) (string, error)
	// Getenv reads the environment, as os.Getenv.
	Getenv func(key string) string

	// Adapters lists the display adapters in the registry (Windows only).
	Adapters func() ([]Adapter, error)
	// Memory returns total and available RAM in bytes (Windows only).
	Memory func() (total, available uint64, err error)
	// CPUName returns the processor's marketing name (Windows only).
	CPUName func() string
}

// NewSystem returns the machine we run on. It reads and starts nothing yet.
func NewSystem() System {
	s := System{
		GOOS:     runtime.GOOS,
		GOARCH:   runtime.GOARCH,
		CPUs:     runtime.NumCPU(),
		Run:      (&runner{start: execute}).run,
		LookPath: exec.LookPath,
		Getenv:   os.Getenv,
	}
	s.native()
	return s
}

var errNoCommand = errors.New("hardware: no commands can be run here")

// maxFile bounds every read: the largest file of interest is /proc/cpuinfo of
// a machine with hundreds of processors.
const maxFile = 1 << 20

func (s System) path(name string) string {
	if s.Root == "" {
		return name
	}
	return filepath.Join(s.Root, filepath.FromSlash(name))
}

// read returns a file's text without surrounding space and NUL bytes, or
// false.
func (s System) read(name string) (string, bool) {
	f, err := os.Open(s.path(name))
	if err != nil {
		return "", false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return "", false
	}
	return strings.Trim(string(data), "\x00 \t\r\n"), true
}

// readUint reads a file that holds one number, decimal or 0x-prefixed.
func (s System) readUint(name string) (uint64, bool) {
	text, ok := s.read(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 0, 64)
	return n, err == nil
}

func (s System) exists(name string) bool {
	_, err := os.Stat(s.path(name))
	return err == nil
}

// list returns the names in a directory, sorted, none if it cannot be read.
// Names that end in a number sort by it: card2 before card10.
func (s System) list(dir string) []string {
	entries, err := os.ReadDir(s.path(dir))
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	sort.Slice(names, func(a, b int) bool {
		if len(names[a]) != len(names[b]) {
			return len(names[a]) < len(names[b])
		}
		return names[a] < names[b]
	})
	return names
}

func (s System) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	if s.Run == nil {
		return nil, errNoCommand
	}
	return s.Run(ctx, name, args...)
}

func (s System) getenv(key string) string {
	if s.Getenv == nil {
		return ""
	}
	return s.Getenv(key)
}

// integratedEnabled is OLLAMA_IGPU_ENABLE, read as Ollama reads its switches:
// anything that is not a false boolean is on.
func (s System) integratedEnabled() bool {
	v := strings.TrimSpace(s.getenv("OLLAMA_IGPU_ENABLE"))
	on, err := strconv.ParseBool(v)
	return v != "" && (err != nil || on)
}

// gpuOverhead is OLLAMA_GPU_OVERHEAD in bytes, 0 if unset or not a number.
func (s System) gpuOverhead() uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(s.getenv("OLLAMA_GPU_OVERHEAD")), 10, 64)
	if err != nil || n > maxSize {
		return 0
	}
	return n
}
