package hardware

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rewrite changes one file of a fixture.
func rewrite(t *testing.T, s System, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Root, filepath.FromSlash(name)), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// smiWith changes what nvidia-smi prints.
func smiWith(s System, replace ...string) System {
	run := s.Run
	s.Run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
		out, err := run(ctx, name, args...)
		return []byte(strings.NewReplacer(replace...).Replace(string(out))), err
	}
	return s
}

func TestRefreshFollowsUse(t *testing.T) {
	s := fixture(t, "rtx4090")
	i := Detect(t.Context(), s)
	rewrite(t, s, "proc/meminfo", "MemTotal: 65558268 kB\nMemAvailable: 1048576 kB\n")
	r := Refresh(t.Context(), smiWith(s, "23142", "1000"), i)
	if r.VRAMFree.N != 1000*mib || r.RAMFree.N != gib || r.VRAM != i.VRAM || r.RAM != i.RAM {
		t.Errorf("%+v", r)
	}
	if i.VRAMFree.N != 23142*mib || i.GPUs[0].Free.N != 23142*mib {
		t.Error("the original was changed")
	}
	if len(r.Notes) != len(i.Notes) {
		t.Errorf("notes grow: %q", r.Notes)
	}
}

// TestRefreshForgets: what cannot be read now is unknown now, and is back with
// the next good reading.
func TestRefreshForgets(t *testing.T) {
	s := fixture(t, "two_gpus")
	i := Detect(t.Context(), s)

	r := Refresh(t.Context(), smiWith(s, "24576, 2113", "[GPU is lost], [GPU is lost]"), i)
	if r.GPUs[1].Free.Known() || r.VRAMFree.N != 24241*mib {
		t.Errorf("one card lost: %+v", r)
	}
	broken := s
	broken.Run = func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("exit status 9") }
	rewrite(t, s, "proc/meminfo", "")
	r = Refresh(t.Context(), broken, i)
	if r.VRAMFree.Known() || r.RAMFree.Known() || r.VRAM != i.VRAM || r.RAM != i.RAM {
		t.Errorf("nothing read: %+v", r)
	}
	if class, _ := r.CanRunNow(Need{Weights: gb}, 0); class != None {
		t.Errorf("nothing is known to be free, and yet %v", class)
	}
	r = r.Learn(10*gib, 10*gib)
	if r.VRAMFree != (Bytes{38 * gib, Learned}) {
		t.Errorf("learned %v", r.VRAMFree)
	}
	r = Refresh(t.Context(), s, r)
	if r.VRAMFree != i.VRAMFree {
		t.Errorf("after a good reading %v", r.VRAMFree)
	}
}

// TestRefreshKeepsCardsApart: the order of nvidia-smi may change.
func TestRefreshKeepsCardsApart(t *testing.T) {
	s := fixture(t, "two_gpus")
	i := Detect(t.Context(), s)
	s.Run = func(context.Context, string, ...string) ([]byte, error) {
		return []byte("0, GPU-c91f24d0-8a3e-4b57-b6d2-f3e1a95c7042, 00000000:42:00.0, NVIDIA GeForce RTX 3090, 24576, 222, 550, 8.6, [N/A]\n" +
			"1, GPU-0b7f3c11-52a8-6f8e-91b4-2b0c8e4d7a10, 00000000:0A:00.0, NVIDIA GeForce RTX 3090, 24576, 111, 550, 8.6, [N/A]\n"), nil
	}
	r := Refresh(t.Context(), s, i)
	if r.GPUs[0].Free.N != 111*mib || r.GPUs[1].Free.N != 222*mib {
		t.Errorf("%+v", r.GPUs)
	}
}

// TestRefreshAPU: the carve-out fills first, then what RAM has left bounds the
// rest.
func TestRefreshAPU(t *testing.T) {
	s := fixture(t, "strix_96g")
	i := Detect(t.Context(), s)
	rewrite(t, s, "sys/class/drm/card1/device/mem_info_vram_used", "53687091200") // 50 GiB
	rewrite(t, s, "proc/meminfo", "MemTotal: 31877120 kB\nMemAvailable: 2097152 kB\n")
	r := Refresh(t.Context(), s, i)
	if r.VRAMFree.N != 48*gib || r.PoolFree.N != 48*gib || r.Pool != i.Pool {
		t.Errorf("free %v pool %v", r.VRAMFree, r.PoolFree)
	}
}

// TestRefreshOfConfigured: use is measured, the total is the user's.
func TestRefreshOfConfigured(t *testing.T) {
	s := fixture(t, "rtx4090")
	i := Detect(t.Context(), s).Apply(Overrides{VRAM: 20 * gib, RAM: 32 * gib})
	r := Refresh(t.Context(), smiWith(s, "23142", "12564"), i) // 12,000 MiB used
	if r.VRAMFree.N != 20*gib-12000*mib || r.VRAM != (Bytes{20 * gib, Configured}) {
		t.Errorf("vram free %v of %v", r.VRAMFree, r.VRAM)
	}
	if want := 32*gib - (65558268-58211408)*kib; r.RAMFree.N != uint64(want) {
		t.Errorf("ram free %v", r.RAMFree)
	}
}

// TestLaterLimit: an Ollama that starts later in a small cgroup
// bounds what is free.
func TestLaterLimit(t *testing.T) {
	s := fixture(t, "cpu")
	i := Detect(t.Context(), s)
	for name, text := range map[string]string{
		"proc/99/comm": "ollama\n", "proc/99/cgroup": "0::/small\n",
		"sys/fs/cgroup/small/memory.max": "2147483648\n", "sys/fs/cgroup/small/memory.current": "1073741824\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(s.Root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		rewrite(t, s, name, text)
	}
	if r := Refresh(t.Context(), s, i); r.RAMFree.N != gib {
		t.Errorf("ram free %v", r.RAMFree)
	}
}
