package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"stemma/pageserver"
)

func newReseal() *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "reseal",
		Short: "Seal by the first master key what former ones sealed",
		Long: "After a new master key went in front of the old one, and the server was restarted, this seals the data keys of\n" +
			"encrypted objects and the secrets of access keys by it. Bodies are neither read nor written. What history,\n" +
			"snapshots and forks still read needs the old key until it has expired.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var a pageserver.ResealAnswer
			if err := f.call(cmd.Context(), http.MethodPost, "v1/encryption/reseal", nil, nil, &a); err != nil {
				return fmt.Errorf("reseal: %w", err)
			}
			out := cmd.OutOrStdout()
			for _, name := range a.Skipped {
				if _, err := fmt.Fprintf(out, "skipped %s: it is read-only\n", name); err != nil {
					return err
				}
			}
			if _, err := fmt.Fprintf(out, "%d data keys and %d access keys sealed anew, %d records looked at\n", a.Resealed, a.AccessKeys, a.Scanned); err != nil {
				return err
			}
			if a.Unopened > 0 {
				return fmt.Errorf("reseal: %d data keys do not open: their master key is not there", a.Unopened)
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}
