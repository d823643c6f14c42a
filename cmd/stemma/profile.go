package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"stemma/pageserver"
)

func newProfile() *cobra.Command {
	var f adminFlags
	var seconds int
	var out string
	cmd := &cobra.Command{
		Use:   "profile KIND",
		Short: "Write a profile of the running server, for go tool pprof",
		Long: "KIND is cpu, block or mutex, which are gathered for some seconds, or heap, allocs or goroutine, which are there at\n" +
			"once. Look at the file with: go tool pprof -http : FILE",
		Args: betweenArgs(1, "KIND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"kind": {args[0]}, "seconds": {strconv.Itoa(seconds)}}
			var p pageserver.ProfileAnswer
			if err := f.call(cmd.Context(), http.MethodGet, "v1/profile", query, nil, &p); err != nil {
				return fmt.Errorf("profile: %w", err)
			}
			if out == "" {
				out = "stemma-" + p.Kind + ".pprof"
			}
			if err := os.WriteFile(out, p.Profile, 0o644); err != nil {
				return fmt.Errorf("profile: %w", err)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), out)
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&seconds, "seconds", 10, "how long cpu, block and mutex are gathered")
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write (default stemma-KIND.pprof)")
	return cmd
}
