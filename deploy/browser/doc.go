// Package browser tests the page of package dashboard as a person would use
// it: a real Chromium opens it, clicks, sees a node die and come back. It also
// takes the pictures in deploy/screenshots:
//
//	KAGE_SCREENSHOTS=$PWD/deploy/screenshots go test -run TestScenes ./deploy/browser
//
// It needs chromium, node and npm; playwright-core comes from npm once, as
// package-lock.json pins it, and is kept in the user's cache.
package browser
