// Package store reads the files of an Ollama's models: the manifests, which
// name a model's layers, and the blobs, which are the layers, each named by its
// own digest.
//
// Nothing outside the store can be read through it, whatever name or digest is
// asked for, and nothing is ever written: the store belongs to Ollama.
//
//	s := store.Store{Dirs: store.Usual()}
//	manifest, err := s.Manifest("qwen2.5:72b")
//	blob, size, err := s.Blob("sha256:6e4c38...")
package store
