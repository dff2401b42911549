package compare

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine names this machine by its size only.
func machine() string {
	ram := "memory unknown"
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			if kib, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
				ram = fmt.Sprintf("%.0f GiB RAM", float64(kib)/(1<<20))
			}
		}
	}
	return fmt.Sprintf("%d cores, %s, %s/%s, %s", runtime.NumCPU(), ram, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

func cores() float64 { return float64(runtime.NumCPU()) }

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * clockTick
}

// loadAverage says how loaded the machine is.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], ", ")
}
