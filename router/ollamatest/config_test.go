package ollamatest

import "testing"

func TestFeaturesByVersion(t *testing.T) {
	for _, tt := range []struct {
		version                                             string
		debug, logprobs, responses, messages, state, modern bool
	}{
		{"0.9.6", false, false, false, false, false, false},
		{"0.11.5", true, false, false, false, false, false},
		{"0.12.11", true, true, false, false, false, false},
		{"v0.13.3", true, true, true, false, false, false},
		{"0.14.0", true, true, true, true, false, false},
		{"0.18", true, true, true, true, true, false},
		{"0.30.0-rc1", true, true, true, true, true, true},
		{"0.33.0", true, true, true, true, true, true},
		{"dev", false, false, false, false, false, false},
	} {
		got := featuresOf(parseRelease(tt.version))
		if got.debug != tt.debug || got.logprobs != tt.logprobs || got.responses != tt.responses ||
			got.messages != tt.messages || got.status != tt.state || got.modern != tt.modern || got.oldPenalty == tt.modern {
			t.Errorf("%s: %+v", tt.version, got)
		}
	}
}

func TestHumanUnits(t *testing.T) {
	for n, want := range map[int64]string{12: "12", 243904: "243K", 135_000_000: "135.00M", 7_600_000_000: "7.6B"} {
		if got := humanCount(n); got != want {
			t.Errorf("%d parameters: %s, want %s", n, got, want)
		}
	}
	for n, want := range map[uint64]string{5: "5 B", 2048: "2.0 KiB", 3 << 20: "3.0 MiB", 204761729433: "190.7 GiB"} {
		if got := humanBytes(n); got != want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
	}
}
