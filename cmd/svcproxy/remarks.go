package main

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/klog/v2"
)

// remark logs what of the configuration is not as it says: a line each for the
// mode, for flags that the file takes the place of, and for what svcproxy does not
// have.
func (o *options) remark(ctx context.Context) {
	log := klog.FromContext(ctx)
	if o.settings.mode != modeIPTables {
		log.Info("There is no such mode here: Services are served by iptables, with what the settings of that mode come to", "mode", string(o.settings.mode))
	}
	if flags := o.overridden(); len(flags) > 0 {
		log.Info("Flags are ignored because the configuration file takes their place", "flags", flags, "file", o.configFile)
	}
	var names []string
	for _, field := range unused(o.settings.configuration) {
		names = append(names, o.nameOf(field))
	}
	if len(names) > 0 {
		log.Info("Settings are ignored because they do not apply to svcproxy", "settings", names)
	}
}

// overridden lists the flags that were given, but count for nothing with --config.
func (o *options) overridden() []string {
	if o.configFile == "" {
		return nil
	}
	names := []string{"healthz-port", "metrics-port"}
	for _, f := range configFlags(o.fromFlags) {
		names = append(names, f.name)
	}
	var out []string
	for _, name := range names {
		if o.flags.Changed(name) {
			out = append(out, "--"+name)
		}
	}
	return out
}

// unused lists the fields that are not as by default and that svcproxy has no
// use for.
func unused(c *configuration) []string {
	var out []string
	for _, path := range differing(c, defaultConfiguration()) {
		top, _, _ := strings.Cut(path, ".")
		if slices.Contains([]string{"ipvs", "nftables", "winkernel", "windowsRunAsService", "portRange",
			"configSyncPeriod", "showHiddenMetricsForVersion"}, top) {
			out = append(out, path)
		}
	}
	return append(out, unusedGates(c.FeatureGates)...)
}

// differing lists the fields in which two configurations differ, sorted.
func differing(a, b *configuration) []string { return differingFields(asJSON(a), asJSON(b), "") }

func asJSON(c *configuration) any {
	var out any
	if text, err := json.Marshal(c); err == nil {
		_ = json.Unmarshal(text, &out) // it has just been written
	}
	return out
}

func differingFields(a, b any, path string) []string {
	in, ok1 := a.(map[string]any)
	on, ok2 := b.(map[string]any)
	if !ok1 || !ok2 {
		if reflect.DeepEqual(a, b) {
			return nil
		}
		return []string{path}
	}
	keys := maps.Clone(in)
	maps.Copy(keys, on)
	var out []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		out = append(out, differingFields(in[key], on[key], join(path, key))...)
	}
	return out
}
