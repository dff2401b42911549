package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh/doctor"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// bundle writes what somebody else needs to help into an archive: what doctor
// found and the facts behind it, version, metrics and log of the node. Nothing
// of it holds the text of a request: neither does the log. Keys are taken out
// in any case.
func (e environment) bundle(ctx context.Context, path string, client admin.Client, d diagnosis, facts doctor.Facts) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return usage("name a file that does not exist yet", "cannot write the bundle: %w", err)
	}
	files := []struct {
		name string
		data []byte
	}{
		{"doctor.json", indented(d)},
		{"facts.json", indented(facts)},
		{"version.json", indented(build())},
		{"metrics.txt", metricsText(ctx, client.Base)},
		{"log.txt", logText(ctx)},
	}
	zip := gzip.NewWriter(f)
	archive := tar.NewWriter(zip)
	for _, file := range files {
		data := []byte(doctor.Redact(string(file.data), facts.Home))
		err = archive.WriteHeader(&tar.Header{Name: "kage-mesh/" + file.name, Mode: 0o600, Size: int64(len(data)), ModTime: d.Timestamp})
		if err == nil {
			_, err = archive.Write(data)
		}
		if err != nil {
			break
		}
	}
	for _, c := range []io.Closer{archive, zip, f} {
		if cerr := c.Close(); err == nil {
			err = cerr
		}
	}
	return err
}

func indented(v any) []byte {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return []byte(err.Error())
	}
	return data
}

// bundleMost bounds metrics and log in a bundle, bytes.
const bundleMost = 4 << 20

// metricsText is the node's metrics, or why there are none.
func metricsText(ctx context.Context, base string) []byte {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return []byte(err.Error())
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return []byte(err.Error())
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, bundleMost))
	if err != nil {
		return []byte(err.Error())
	}
	return data
}

// logText is the last of the service's log, where systemd keeps one.
func logText(ctx context.Context) []byte {
	out, err := doctor.NewSystem().Run(ctx, "journalctl", "-u", "kage-mesh", "-n", "2000", "--no-pager", "-o", "cat")
	switch {
	case err != nil:
		return []byte("no log of a service: " + err.Error())
	case out == "":
		return []byte("no log of a service")
	}
	return bytes.ToValidUTF8([]byte(out[max(0, len(out)-bundleMost):]), nil)
}
