// Package dashboard is the page of a node, at /mesh/ on its client port: the
// mesh as a picture that follows it live. Everything it needs is in the binary;
// it loads nothing from elsewhere and no script or style but its own files,
// which its Content-Security-Policy enforces.
//
// The page is plain modules in assets, without a build step; what was taken
// from others is in assets/vendor with its licences. It gets all it shows from
// the routes of package admin, events, history and models, and has models
// pulled and loaded by those of Ollama.
//
//	mux.Handle("/mesh/", admin.Here(dashboard.Handler()))
package dashboard
