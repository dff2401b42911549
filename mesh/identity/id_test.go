package identity

import "testing"

func TestValid(t *testing.T) {
	tests := []struct {
		name string
		id   NodeID
		want bool
	}{
		{"real", FromSPKI([]byte("x")), true},
		{"empty", "", false},
		{"short", "abcdefghijklmnopqrstuvwxy", false},
		{"long", "abcdefghijklmnopqrstuvwxyz2", false},
		{"upper case", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", false},
		{"digit outside base32", "abcdefghijklmnopqrstuvwxy1", false},
		{"host name", "ubuntu", false},
		{"path", "../../../../../../etc/pass", false},
	}
	for _, tt := range tests {
		if got := tt.id.Valid(); got != tt.want {
			t.Errorf("%s: %q valid %v", tt.name, tt.id, got)
		}
	}
	if got := NodeID("ab").Short(); got != "ab" {
		t.Errorf("short of a short id is %q", got)
	}
	if got := FromSPKI([]byte("x")).Short(); len(got) != 4 {
		t.Errorf("short is %q", got)
	}
}
