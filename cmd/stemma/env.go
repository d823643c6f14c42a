package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envName returns the environment variable of a flag: --admin-listen is
// STEMMA_ADMIN_LISTEN.
func envName(flag string) string {
	return "STEMMA_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// hasEnv leaves out cobra's own flags.
func hasEnv(f *pflag.Flag) bool { return f.Name != "help" && f.Name != "version" }

// setFromEnv gives every flag that is not on the command line the value of its
// variable. An empty variable counts as unset.
func setFromEnv(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var first error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || !hasEnv(f) || first != nil {
			return
		}
		if v, ok := lookup(envName(f.Name)); ok && v != "" {
			if err := flags.Set(f.Name, v); err != nil {
				first = usagef("%s=%q: %w", envName(f.Name), v, err)
			}
		}
	})
	return first
}

// documentEnv names each flag's variable in its help.
func documentEnv(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if hasEnv(f) && !strings.Contains(f.Usage, "[$") {
			f.Usage += " [$" + envName(f.Name) + "]"
		}
	})
	for _, c := range cmd.Commands() {
		documentEnv(c)
	}
}
