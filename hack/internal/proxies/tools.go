package proxies

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// LinkTools fills a folder, which exists, with links to the commands that a
// proxy finds by its PATH: iptables of one backend under the plain names, those of
// both under their own, and nft.
func LinkTools(dir, backend string) error {
	links := map[string]string{"nft": "nft"}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, verb := range []string{"", "-save", "-restore"} {
			links[family+verb] = "xtables-" + backend + "-multi"
			links[family+"-nft"+verb] = "xtables-nft-multi"
			links[family+"-legacy"+verb] = "xtables-legacy-multi"
		}
	}
	for name, target := range links {
		path, err := exec.LookPath(target)
		if err != nil {
			return fmt.Errorf("%w (packages iptables and nftables)", err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// Tools is two folders with these commands.
type Tools struct {
	Dir  string // what PATH begins with
	Real string // the same commands, which never change
}

// NewTools makes the folders in another one, which exists.
func NewTools(dir, backend string) (*Tools, error) {
	t := &Tools{Dir: filepath.Join(dir, "tools"), Real: filepath.Join(dir, "real")}
	for _, d := range []string{t.Dir, t.Real} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
		if err := LinkTools(d, backend); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Shim puts scripts in the place of some commands, under the proxy's feet. script is
// told the name and the real command; empty: that is what is to be there.
func (t *Tools) Shim(script func(name, real string) string) error {
	all, err := os.ReadDir(t.Real)
	if err != nil {
		return err
	}
	for _, e := range all {
		temporary, real := filepath.Join(t.Dir, ".new"), filepath.Join(t.Real, e.Name())
		if text := script(e.Name(), real); text != "" {
			err = os.WriteFile(temporary, []byte(text), 0o700)
		} else {
			err = os.Symlink(real, temporary)
		}
		if err != nil {
			return err
		}
		if err := os.Rename(temporary, filepath.Join(t.Dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
