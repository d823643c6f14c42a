package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"stemma/pageserver"
)

func newBucketDelete() *cobra.Command {
	var f clientFlags
	var force bool
	var undo time.Duration
	cmd := &cobra.Command{
		Use:   "delete BUCKET",
		Short: "Delete a bucket; its forks live on",
		Long: "Delete takes the bucket's name away. A bucket that is no fork can be undeleted for a day, a fork cannot,\n" +
			"unless --undo says otherwise: then nothing of it is given back before that time is over.",
		Args: exactArgs("BUCKET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h := http.Header{}
			if force {
				h.Set(headerForce, "true")
			}
			if cmd.Flags().Changed("undo") {
				if undo < 0 {
					return usagef("--undo %v: want a duration such as 24h, or 0s", undo)
				}
				h.Set(headerUndo, undo.String())
			}
			if err := f.bucketRequest(cmd.Context(), http.MethodDelete, args[0], h); err != nil {
				return fmt.Errorf("delete bucket %s: %w", args[0], err)
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "delete it although it holds objects or has forks")
	cmd.Flags().DurationVar(&undo, "undo", 0, "for how long it can be undeleted; 0s: not at all")
	return cmd
}

func newBucketDeleted() *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "deleted",
		Short: "List the buckets that can be undeleted: id, until when, name",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list pageserver.DeletedAnswer
			if err := f.call(cmd.Context(), http.MethodGet, "v1/deleted", nil, nil, &list); err != nil {
				return fmt.Errorf("list deleted buckets: %w", err)
			}
			for _, b := range list.Buckets {
				fmt.Fprintf(cmd.OutOrStdout(), "%8d  %s  %s\n", b.ID, b.Until.UTC().Format(time.RFC3339), b.Name)
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func newBucketUndelete() *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "undelete ID NAME",
		Short: "Bring a deleted bucket back as it was, under a name",
		Args:  exactArgs("ID", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := strconv.ParseUint(args[0], 10, 64); err != nil {
				return usagef("ID %q: want a number, see stemma bucket deleted", args[0])
			}
			var b pageserver.BucketAnswer
			err := f.call(cmd.Context(), http.MethodPost, "v1/deleted/"+args[0]+"/undelete", nil, pageserver.Undelete{Name: args[1]}, &b)
			if err != nil {
				return fmt.Errorf("undelete bucket %s: %w", args[0], err)
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func newBucketRetention() *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "retention BUCKET [WINDOW]",
		Short: "Show or set how far back a bucket can be read",
		Long: "Retention shows, or sets, the window of a bucket: every moment within it can be read, forked and restored.\n" +
			"WINDOW is a duration such as 24h, 0s (only the present), or forever. What a smaller window lets go of is\n" +
			"given back by the next collection; a larger one brings nothing back.",
		Args: betweenArgs(1, "BUCKET", "WINDOW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, _ := url.JoinPath("v1/buckets", url.PathEscape(args[0]), "retention")
			if len(args) == 1 {
				var r pageserver.Retention
				if err := f.call(cmd.Context(), http.MethodGet, path, nil, nil, &r); err != nil {
					return fmt.Errorf("retention of %s: %w", args[0], err)
				}
				fmt.Fprintln(cmd.OutOrStdout(), r.Window)
				return nil
			}
			if _, err := pageserver.ParseWindow(args[1]); err != nil {
				return &usageError{err}
			}
			r := pageserver.Retention{Window: args[1]}
			if err := f.call(cmd.Context(), http.MethodPut, path, nil, r, &r); err != nil {
				return fmt.Errorf("set retention of %s: %w", args[0], err)
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}
