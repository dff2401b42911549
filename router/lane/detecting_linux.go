//go:build !race

package lane

const detecting = false
