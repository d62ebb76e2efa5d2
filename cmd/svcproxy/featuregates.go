package main

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	clientfeatures "k8s.io/client-go/features"
	"k8s.io/component-base/featuregate"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
)

// kubeProxyGates are the feature gates that kube-proxy knows, of all components:
// a line each with name, stage, default and, if it cannot be changed, locked.
// hack/kubernetes/gates writes it.
//
//go:embed featuregates.txt
var kubeProxyGates string

const allowServiceExternalIPs featuregate.Feature = "AllowServiceExternalIPs"

// newGates returns kube-proxy's feature gates with some of them set.
func newGates(set map[string]bool) (featuregate.FeatureGate, field.ErrorList) {
	gates := featuregate.NewFeatureGate()
	path := field.NewPath("featureGates")
	if err := gates.Add(knownGates()); err != nil {
		return nil, field.ErrorList{field.InternalError(path, err)}
	}
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if err := gates.SetFromMapWithLogger(klog.Logger{}, map[string]bool{name: set[name]}); err != nil {
			errs = append(errs, field.Invalid(path.Key(name), set[name], err.Error()))
		}
	}
	return gates, errs
}

func knownGates() map[featuregate.Feature]featuregate.FeatureSpec {
	known := map[featuregate.Feature]featuregate.FeatureSpec{}
	for line := range strings.Lines(kubeProxyGates) {
		words := append(strings.Fields(line), "")
		spec := featuregate.FeatureSpec{Default: words[2] == "true", LockToDefault: words[3] == "locked"}
		switch words[1] {
		case "alpha":
			spec.PreRelease = featuregate.Alpha
		case "beta":
			spec.PreRelease = featuregate.Beta
		case "deprecated":
			spec.PreRelease = featuregate.Deprecated
		}
		known[featuregate.Feature(words[0])] = spec
	}
	return known
}

// unusedGates lists those that were changed and do nothing in svcproxy.
func unusedGates(set map[string]bool) []string {
	known := knownGates()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if f := featuregate.Feature(name); known[f].Default != set[name] && !usesGate(f) {
			out = append(out, fmt.Sprintf("featureGates[%s]", name))
		}
	}
	return out
}

// usesGate reports whether a gate does something in svcproxy.
func usesGate(f featuregate.Feature) bool {
	used := []featuregate.Feature{"AllAlpha", "AllBeta", allowServiceExternalIPs,
		logsapi.ContextualLogging, logsapi.LoggingAlphaOptions, logsapi.LoggingBetaOptions}
	return slices.Contains(used, f) || slices.Contains(clientGateNames(), f)
}

// gateNames collects the names of gates.
type gateNames []featuregate.Feature

func (n *gateNames) Add(gates map[clientfeatures.Feature]clientfeatures.FeatureSpec) error {
	for name := range gates {
		*n = append(*n, featuregate.Feature(name))
	}
	return nil
}

func clientGateNames() []featuregate.Feature {
	var names gateNames
	_ = clientfeatures.AddFeaturesToExistingFeatureGates(&names) // Add never fails
	return names
}

// clientGates has client-go's feature gates as they are set, and the rest as
// client-go has them.
type clientGates struct {
	clientfeatures.Gates
	set map[string]bool
}

func (g clientGates) Enabled(f clientfeatures.Feature) bool {
	if on, ok := g.set[string(f)]; ok {
		return on
	}
	return g.Gates.Enabled(f)
}

// setClientGates makes client-go follow the gates. It must come before clients.
func setClientGates(set map[string]bool) {
	if len(set) > 0 {
		clientfeatures.ReplaceFeatureGates(clientGates{clientfeatures.FeatureGates(), set})
	}
}
