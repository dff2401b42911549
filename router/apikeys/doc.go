// Package apikeys owns the keys that clients show on the client port: their
// names, scopes and limits, and the file in the state directory that holds
// them.
//
// Its invariant: the file and the memory of a node hold SHA-256 hashes, never a
// key. A key is 256 random bits, so a hash of it cannot be guessed and needs no
// salt or slow function; whoever reads the file can use none of the keys.
//
//	store := apikeys.Open(filepath.Join(state, apikeys.File))
//	text, err := store.Add(apikeys.Key{Name: "open-webui", Scopes: []apikeys.Scope{apikeys.Infer}}, time.Now())
//	fmt.Println(text)            // shown once
//	key, ok := store.Match(text) // by every request
//
// The commands that change the file run beside the node: the node looks at the
// file again when it has changed.
package apikeys
