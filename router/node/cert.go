package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Files of the self-signed certificate in the state directory.
const (
	certFile    = "api.crt"
	certKeyFile = "api.key"
)

// buildTLS is the client port's TLS configuration; nil: plain HTTP.
func (n *Node) buildTLS() (*tls.Config, error) {
	c := &n.config
	cert, key := c.TLSCert, c.TLSKey
	switch {
	case cert != "" && key != "":
	case cert != "" || key != "":
		return nil, errors.New("a certificate and its key belong together")
	case !c.TLS:
		return nil, nil
	default:
		cert, key = filepath.Join(c.StateDir, certFile), filepath.Join(c.StateDir, certKeyFile)
		if err := selfSigned(cert, key, c.Name); err != nil {
			return nil, err
		}
	}
	files := &certFiles{cert: cert, key: key}
	if _, err := files.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12, // clients are not ours to choose
		GetCertificate: files.get,
		NextProtos:     []string{"http/1.1"}, // what the guard follows byte by byte
	}, nil
}

// certFiles reads a certificate again when its file has changed, so that a
// renewed one is served without a restart.
type certFiles struct {
	cert, key string

	mu     sync.Mutex
	looked time.Time
	stamp  time.Time
	loaded *tls.Certificate
}

func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.loaded != nil && now.Sub(f.looked) < time.Minute {
		return f.loaded, nil
	}
	f.looked = now
	info, err := os.Stat(f.cert)
	if err == nil && f.loaded != nil && info.ModTime().Equal(f.stamp) {
		return f.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		if f.loaded != nil {
			return f.loaded, nil // half a renewal: the old one goes on
		}
		return nil, err
	}
	if info != nil {
		f.stamp = info.ModTime()
	}
	f.loaded = &pair
	return f.loaded, nil
}

// selfSigned makes a certificate for this machine's names and addresses, unless
// there is one. Clients pin it or are told to trust it: it has no authority.
func selfSigned(cert, key, name string) error {
	_, err := os.Stat(cert)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"kage-mesh"}},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, n := range []string{"localhost", name, name + ".local"} {
		if validName(n) && !slices.Contains(t.DNSNames, n) {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	addrs, _ := net.InterfaceAddrs() // without them: loopback alone
	for _, a := range addrs {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, priv.Public(), priv)
	if err != nil {
		return err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return err
	}
	if err := writeNew(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600); err != nil {
		return err
	}
	return writeNew(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// writeNew writes a file as a whole or not at all.
func writeNew(path string, data []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	return err
}

// validName reports whether n can stand in a certificate as a DNS name.
func validName(n string) bool {
	if n == "" || len(n) > 253 {
		return false
	}
	for _, c := range n {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}
