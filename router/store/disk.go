package store

import (
	"os"
	"path/filepath"
)

// Free is how many bytes are free for models on the disk of the first of dirs
// that exists; 0 when none does or it cannot be known.
func Free(dirs []string) uint64 {
	for _, dir := range dirs {
		if info, err := os.Stat(filepath.Clean(dir)); err == nil && info.IsDir() {
			return free(dir)
		}
	}
	return 0
}
