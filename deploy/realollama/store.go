//go:build linux || darwin

package realollama

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/tinymodels"
)

// DefaultVersion is what `make ollama` builds: the newest that is complete
// when built with `go install` alone. From v0.11.5 to v0.24 the module lacks
// vendored headers, and from v0.30 the engine is a program of its own.
const DefaultVersion = "v0.11.4"

// createLimit bounds the making of one model, which takes a second.
const createLimit = 3 * time.Minute

// cache is where builds and prepared models are kept, outside the tree. It is
// the place that deploy/ci/ollama.sh uses.
func cache() string {
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		base = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	return filepath.Join(base, "kage-mesh")
}

// prepared returns an Ollama model directory that holds one model, and makes
// it first when the cache lacks it. Test processes that want the same model at
// once wait for each other.
func prepared(t testing.TB, binary, name string) (string, error) {
	t.Helper()
	key, err := tinymodels.Fingerprint(name)
	if err != nil {
		return "", err
	}
	server, err := identify(binary)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache(), "models", server, name+"-"+key)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	partial := dir + ".partial" // of a process that died while it had the lock
	if err := os.RemoveAll(partial); err != nil {
		return "", err
	}
	if err := create(t, binary, name, partial); err != nil {
		return "", err
	}
	return dir, os.Rename(partial, dir)
}

// create has a server of its own make the model and takes its model directory.
func create(t testing.TB, binary, name, into string) error {
	t.Helper()
	o := newOllama(t, binary, Options{Address: "127.0.0.1:0"})
	files := filepath.Join(o.dir, "files")
	if err := tinymodels.Write(files, name); err != nil {
		return err
	}
	o.start()
	defer o.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), createLimit)
	defer cancel()
	cmd := o.CLI(ctx, "create", name, "-f", filepath.Join(files, "Modelfile."+name))
	cmd.Dir = files
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ollama create: %w: %s", err, out)
	}
	o.Stop()
	return link(o.models(), into)
}

// identify is a short name for the file at path as it is now.
func identify(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", path, info.Size(), info.ModTime().UnixNano()))
	return hex.EncodeToString(sum[:6]), nil
}

// lock takes a file lock that ends with the process at the latest.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

// link adds one model directory to another. Blobs, named by their digest and
// never written again, are hard links where the file system allows; manifests
// are copies, because Ollama overwrites them in place.
func link(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if strings.HasPrefix(rel, "blobs"+string(filepath.Separator)) {
			err := os.Link(path, target)
			if err == nil || errors.Is(err, fs.ErrExist) {
				return nil
			}
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
