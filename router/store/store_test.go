package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// put writes a file below a new store.
func put(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

var digest = strings.Repeat("0a", 32)

func TestReadsManifestsAndBlobs(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	put(t, dir, "manifests/registry.ollama.ai/library/tiny/latest", "tiny")
	put(t, other, "manifests/hf.co/User/Model/Q4_K_M", "hf")
	put(t, other, "blobs/sha256-"+digest, "weights")
	s := Store{Dirs: []string{filepath.Join(t.TempDir(), "none"), dir, other}}
	for name, want := range map[string]string{
		"tiny": "tiny", "tiny:latest": "tiny", "registry.ollama.ai/library/tiny:latest": "tiny", "hf.co/User/Model:Q4_K_M": "hf",
	} {
		if got, err := s.Manifest(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	f, size, err := s.Blob("sha256:" + strings.ToUpper(digest))
	if err != nil || size != 7 {
		t.Fatalf("%d, %v", size, err)
	}
	defer f.Close()
	if got, _ := io.ReadAll(f); string(got) != "weights" {
		t.Errorf("%q", got)
	}
	if _, err := s.Manifest("nosuch"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no manifest: %v", err)
	}
	if _, _, err := (Store{}).Blob("sha256:" + digest); !errors.Is(err, ErrNone) {
		t.Errorf("no store: %v", err)
	}
}

func TestNothingOutsideTheStoreIsRead(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "models")
	secret := put(t, root, "secret", "secret")
	put(t, dir, "manifests/registry.ollama.ai/library/tiny/latest", "tiny")
	put(t, dir, "blobs/x", "x")
	if err := os.Symlink(secret, filepath.Join(dir, "blobs", "sha256-"+digest)); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	if err := os.Symlink(root, filepath.Join(dir, "manifests", "evil")); err != nil {
		t.Fatal(err)
	}
	s := Store{Dirs: []string{dir}}
	for _, name := range []string{
		"", ".", "..", "../../secret", "a/../../../secret:x", "/etc/passwd", "..:..", "a/b/c/d", "evil/models/blobs:x",
		"evil/x/secret", "tiny:..", "tiny:../latest", "tiny:", "a\\b", "a\x00b", "%2e%2e/x", strings.Repeat("x", 400),
	} {
		if got, err := s.Manifest(name); err == nil {
			t.Errorf("%q gives %q", name, got)
		}
	}
	for _, d := range []string{
		"", "sha256:", "sha256:" + digest[:62], "sha256:" + digest + "00", "sha256-" + digest, "sha256:../../secret", "md5:" + digest,
		"sha256:" + digest[:60] + "/../", "sha256:" + digest, // the link that leads out
	} {
		if f, _, err := s.Blob(d); err == nil {
			t.Errorf("%q gives %s", d, f.Name())
		}
	}
}

func TestDirectoryMayBeOnAnotherDisk(t *testing.T) {
	dir, disk := t.TempDir(), t.TempDir()
	put(t, disk, "sha256-"+digest, "weights")
	if err := os.Symlink(disk, filepath.Join(dir, "blobs")); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	f, _, err := Store{Dirs: []string{dir}}.Blob("sha256:" + digest)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestFromModelfile(t *testing.T) {
	blob := "blobs/sha256-" + digest
	for text, want := range map[string]string{
		"# FROM tiny\nFROM /root/.ollama/models/" + blob + "\nTEMPLATE x": "/root/.ollama/models",
		"from \"/a b/" + blob + "\"\n":                                    "/a b",
		"FROM tiny\n":                                                     "",
		"FROM /x/sha256-" + digest:                                        "",
		"":                                                                "",
	} {
		if got := FromModelfile(text); got != filepath.FromSlash(want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestTemporaryNames(t *testing.T) {
	n, err := ParseName("user/model:7b")
	if err != nil {
		t.Fatal(err)
	}
	name := TemporaryName("127.0.0.1:4321", "abc", n)
	back, err := ParseName(name)
	if err != nil || !Temporary(name) || Ticket(back.Namespace) != "abc" || back.Model != "model" || back.Tag != "7b" {
		t.Errorf("%q: %+v, %v", name, back, err)
	}
	for _, plain := range []string{"tiny", "kage-copy-abc/model", "127.0.0.1:5000/library/tiny", ""} {
		if Temporary(plain) {
			t.Errorf("%q is taken for a temporary name", plain)
		}
	}
}

func TestFree(t *testing.T) {
	if free := Free([]string{filepath.Join(t.TempDir(), "none")}); free != 0 {
		t.Errorf("%d bytes where there is nothing", free)
	}
	if free := Free([]string{"", t.TempDir()}); free == 0 {
		t.Skip("free disk is not known here")
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"tiny", "a/b:c", "h:1/n/m:t", "../x", "a//b", ":", "/"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			return
		}
		file := filepath.Join(dir, filepath.FromSlash(n.file()))
		if rel, err := filepath.Rel(dir, file); err != nil || strings.Count(filepath.ToSlash(rel), "/") != 3 || strings.HasPrefix(rel, "..") {
			t.Errorf("%q leads to %q", s, file)
		}
	})
}
