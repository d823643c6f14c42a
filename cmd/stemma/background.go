package main

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"stemma/pageserver"
)

func newBackground() *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "background [PERCENT]",
		Short: "Show or set how much of one processor background work may take",
		Long: "Compaction, collection, rollups and reclaim are held to a share of one processor's time, so that requests do not\n" +
			"wait for them. What is set holds until the server is started anew; then its flag --background-share counts.",
		Args: betweenArgs(0, "PERCENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var b pageserver.Background
			method, in := http.MethodGet, any(nil)
			if len(args) == 1 {
				n, err := strconv.Atoi(args[0])
				if err != nil {
					return usagef("PERCENT %q: want a number", args[0])
				}
				method, in = http.MethodPut, &pageserver.Background{Share: n}
			}
			if err := f.call(cmd.Context(), method, "v1/background", nil, in, &b); err != nil {
				return fmt.Errorf("background: %w", err)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), b.Share)
			return err
		},
	}
	f.add(cmd)
	return cmd
}
