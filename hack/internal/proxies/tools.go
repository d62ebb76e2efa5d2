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
