package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// result is what came of a run, as it is kept in a file.
type result struct {
	Proxy, Backend string
	Version        string // of kube-proxy; empty for svcproxy
	Seed           uint64
	Lasted         time.Duration
	Began          time.Time
	Machine        string
	Trials         []trial
	Between        tally // of what began while nothing was wrong
	First, Last    gauges
	Violations     []string
}

// trial is one fault and what came of it.
type trial struct {
	Fault  string
	Tally  tally         // of what began until it was healed
	Lasted time.Duration // the fault

	// Heal is from the end of the fault until all Services, as they are now, were
	// served; less than 0: they were not, and the proxy was started anew.
	Heal time.Duration
	// Fresh is from when objects had ceased to change until the kernel was as after a
	// fresh load; for svcproxy alone.
	Fresh time.Duration
}

func (r *result) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("result: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func readResult(path string) (*result, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &result{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
