// Command gates prints the feature gates that kube-proxy knows: a line each with
// name, stage, default and, if it cannot be changed, locked.
//
//	go run ./gates >../../cmd/svcproxy/featuregates.txt
package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	_ "k8s.io/kubernetes/cmd/kube-proxy/app" // brings along the gates of all components
)

func main() {
	all := utilfeature.DefaultMutableFeatureGate.GetAll()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		spec := all[name]
		stage := strings.ToLower(string(spec.PreRelease))
		if stage == "" {
			stage = "ga"
		}
		line := fmt.Sprint(name, " ", stage, " ", spec.Default)
		if spec.LockToDefault {
			line += " locked"
		}
		fmt.Println(line)
	}
}
