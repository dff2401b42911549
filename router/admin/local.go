package admin

import "net/http"

// Here serves h to callers on this machine only, by the rule that holds for
// the node's own API.
func Here(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !owner(req) {
			write(w, http.StatusForbidden, problem{"this page answers this machine only"})
			return
		}
		h.ServeHTTP(w, req)
	})
}
