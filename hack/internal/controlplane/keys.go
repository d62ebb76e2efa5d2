package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// User is whom the API server knows by a token.
type User struct {
	Token, Name string
	Groups      []string
}

// Admin is a user that may do everything.
func Admin() User { return User{Token: "admin", Name: "admin", Groups: []string{"system:masters"}} }

// Kubeconfig is the path of the kubeconfig of a user.
func (c *ControlPlane) Kubeconfig(u User) string { return c.path(u.Token + ".kubeconfig") }

// KubeconfigAt writes the kubeconfig of a user who reaches the API server by another
// address, and returns its path.
func (c *ControlPlane) KubeconfigAt(a netip.Addr, u User) (string, error) {
	path := c.path(u.Token + "-" + a.String() + ".kubeconfig")
	return path, os.WriteFile(path, kubeconfig(a, u), 0o600)
}

func kubeconfig(a netip.Addr, u User) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"c","cluster":{"server":%q,"insecure-skip-tls-verify":true}}],"users":[{"name":"u","user":{"token":%q}}],
"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}]}`, url(a), u.Token)
}

// writeKeys writes what the API server wants to know users and sign tokens, and
// what users want to know it.
func (c *ControlPlane) writeKeys() error {
	key, err := signingKey()
	if err != nil {
		return err
	}
	var tokens strings.Builder
	files := map[string][]byte{c.path("key.pem"): key}
	for i, u := range c.cfg.Users {
		fmt.Fprintf(&tokens, "%s,%s,%d,%q\n", u.Token, u.Name, i+1, strings.Join(u.Groups, ","))
		files[c.Kubeconfig(u)] = kubeconfig(c.cfg.Address, u)
	}
	files[c.path("tokens")] = []byte(tokens.String())
	for path, text := range files {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// signingKey returns a new key for service account tokens.
func signingKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
