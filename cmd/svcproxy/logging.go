package main

import (
	"errors"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation/field"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
)

// applyLogging makes the log what the settings say. It can be done once.
func (s *settings) applyLogging() error {
	return logsapi.ValidateAndApplyAsField(&s.Logging, s.gates, field.NewPath("logging"))
}

// overrideLogging puts the logging flags that were given into a configuration
// from a file: of all flags they come before it, as in kube-proxy, so that
// "--config FILE -v 5" does what it says. Patterns of --vmodule come before the
// file's.
func overrideLogging(given *pflag.FlagSet, to *logsapi.LoggingConfiguration) error {
	patterns, options := to.VModule, to.Options
	to.VModule = nil
	flags := pflag.NewFlagSet("logging", pflag.ContinueOnError)
	logsapi.AddFlags(to, flags)
	to.Options = options // AddFlags cleared some of it
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		if given.Changed(f.Name) {
			errs = append(errs, f.Value.Set(given.Lookup(f.Name).Value.String()))
		}
	})
	to.VModule = append(to.VModule, patterns...)
	return errors.Join(errs...)
}
