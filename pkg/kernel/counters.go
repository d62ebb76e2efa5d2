//go:build linux

package kernel

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"svcproxy/pkg/rules"
)

// counted matches the counters of a rule as "iptables -S -v" prints them.
var counted = regexp.MustCompile(` -c ([0-9]+) ([0-9]+)( |$)`)

// Packets returns how many packets a rule of a chain has matched; of two that are
// equal, how many both have. It reads that chain alone, which on the legacy
// backend takes as long as reading its table. A rule that is not there has 0.
func (t *Tables) Packets(ctx context.Context, table rules.TableName, chain string, rule rules.Rule) (uint64, error) {
	text, err := output(ctx, t.run, t.tools.command, "-w", lockWait, "-t", string(table), "-S", chain, "-v")
	if err != nil {
		return 0, err
	}
	packets := uint64(0)
	for line := range strings.Lines(string(text)) {
		found := counted.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		same, err := isRule(counted.ReplaceAllString(strings.TrimSpace(line), "$3"), rule, t.family, table)
		if err != nil {
			return 0, fmt.Errorf("%s -t %s -S %s: %w", t.tools.command, table, chain, err)
		}
		if n, err := strconv.ParseUint(found[1], 10, 64); err == nil && same {
			packets += n
		}
	}
	return packets, nil
}

// isRule reports whether a line adds the rule.
func isRule(line string, rule rules.Rule, f rules.Family, table rules.TableName) (bool, error) {
	tables, err := rules.ParseSave([]byte("*"+string(table)+"\n"+line+"\nCOMMIT\n"), f)
	if err != nil {
		return false, err
	}
	for _, c := range tables[0].Chains {
		for i := range c.Rules {
			if c.Rules[i] == rule {
				return true, nil
			}
		}
	}
	return false, nil
}
